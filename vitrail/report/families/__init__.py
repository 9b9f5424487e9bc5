"""How each metric family is shown in reports; a file here has the name of the file in ``vitrail.metrics``.

A file gives its :class:`Family` as ``FAMILY``. A third party's metrics are shown by the ``FAMILY`` of their own module,
or as the metrics of ours that they extend.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias, cast

from vitrail import registry
from vitrail.errors import UserError
from vitrail.metrics import Headline as Headline
from vitrail.report.language import say

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from PIL import Image

    from vitrail.evaluation import Evaluation

OURS = ("vitrail.metrics", "vitrail.tasks")
Columns: TypeAlias = dict[str, Sequence[object]]
"""A table by column."""
Figures: TypeAlias = "dict[str, dict[str, Figure]]"
"""Figures by section and name."""


@dataclass(frozen=True)
class Caption:
    """The target and the prediction of one image in words."""

    true: str
    predicted: str
    score: str  # confidence or error
    right: bool

    @property
    def title(self) -> str:
        """``cat``, or ``cat → dog`` if the prediction is wrong."""
        return self.predicted if self.right else f"{self.true} → {self.predicted}"


@dataclass(frozen=True)
class Family:
    """How one kind of evaluation is shown.

    Attributes:
        headlines: the scalars to show, in order.
        columns: one row per image for ``predictions.csv``; ``loss`` is one of the columns.
        caption: the target and the prediction of the image in a row.
        figures: figures by section and name; at least one section.
        draw: target and prediction side by side on the image of a row, for spatial results.
        trivial: scalars that say nothing where the classes or targets are these, such as top-5 of five classes.
    """

    headlines: Mapping[str, Headline]
    columns: Callable[[Evaluation], Columns]
    caption: Callable[[Evaluation, int], Caption]
    figures: Callable[[Evaluation], Figures]
    draw: Callable[[Evaluation, int, Image.Image], Image.Image] | None = None
    trivial: Callable[[Sequence[str]], Collection[str]] | None = None

    def left_out(self, names: Sequence[str]) -> Collection[str]:
        """The headlines that are not shown where the classes or targets have these names."""
        return self.trivial(names) if self.trivial else ()

    def shown(self, evaluation: Evaluation) -> list[tuple[str, str]]:
        """The scalars of an evaluation as (label, value), in order."""
        left_out = self.left_out(evaluation.family.names)
        lines = [(name, line) for name, line in self.headlines.items() if name not in left_out]
        return [(say(line.label), line.show(evaluation.metrics[name])) for name, line in lines]


def load(name: str) -> Family:
    """The family of a file of this folder."""
    return cast("Family", registry.load("report.families", name).FAMILY)


def family_of(evaluation: Evaluation) -> Family:
    """How an evaluation is shown.

    Raises:
        UserError: its metrics extend none of ours, and their module has no ``FAMILY``.
    """
    metrics = type(evaluation.family)
    if (family := find(metrics)) is None:
        known = ", ".join(f"vitrail.metrics.{name}" for name in registry.names("report.families"))
        raise UserError(
            f"the metrics of {metrics.__module__} extend none of {known}, so no report shows them; "
            "give their module a FAMILY (vitrail.report.families), or measure with vitrail.evaluate"
        )
    return family


def find(kind: type) -> Family | None:
    """The family of a class of metrics, or of a task, by the modules of the class and of those that it extends."""
    for cls in kind.__mro__:
        package, _, name = cls.__module__.rpartition(".")
        if package in OURS and name in registry.names("report.families"):
            return load(name)
        own = getattr(sys.modules.get(cls.__module__), "FAMILY", None)
        if isinstance(own, Family):
            return own
    return None
