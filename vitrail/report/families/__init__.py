"""How each metric family is shown to people; a file here bears the name of the file in ``vitrail.metrics``.

A module provides

- ``HEADLINES: dict[str, Headline]``, the scalars worth showing, in order;
- ``columns(evaluation) -> dict[str, Sequence]``, one row an image for ``predictions.csv``, ``loss`` among them;
- ``caption(evaluation, row) -> Caption``, what was true and what was said of one image;
- ``figures(evaluation) -> dict[str, dict[str, Figure]]``, figures by section and name.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vitrail import registry

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrail.evaluation import Evaluation


class Headline(NamedTuple):
    """How a scalar is written."""

    label: str
    form: str  # of str.format

    def show(self, value: float | None) -> str:
        """The value as text; what is undefined is a dash."""
        return "–" if value is None or not math.isfinite(value) else self.form.format(value)


@dataclass(frozen=True)
class Caption:
    """One image's truth and prediction in words."""

    true: str
    said: str
    score: str  # confidence or error
    right: bool

    @property
    def title(self) -> str:
        """``cat``, or ``cat → dog`` where it was taken for one."""
        return self.said if self.right else f"{self.true} → {self.said}"


class Family(Protocol):
    """What a module of this folder provides."""

    HEADLINES: dict[str, Headline]

    def columns(self, evaluation: Evaluation) -> dict[str, Sequence[Any]]: ...
    def caption(self, evaluation: Evaluation, row: int) -> Caption: ...
    def figures(self, evaluation: Evaluation) -> dict[str, dict[str, Figure]]: ...


def family_of(evaluation: Evaluation) -> Family:
    """The module that shows this evaluation."""
    name = type(evaluation.family).__module__.rsplit(".", 1)[-1]
    module: Any = registry.load("report.families", name)
    return module
