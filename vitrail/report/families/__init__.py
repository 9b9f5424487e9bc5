"""How each metric family is shown to people; a file here bears the name of the file in ``vitrail.metrics``.

A module provides

- ``HEADLINES: dict[str, Headline]``, the scalars worth showing, in order;
- ``columns(evaluation) -> dict[str, Sequence]``, one row an image for ``predictions.csv``, ``loss`` among them;
- ``caption(evaluation, row) -> Caption``, what was true and what was said of one image;
- ``figures(evaluation) -> dict[str, dict[str, Figure]]``, figures by section and name;
- perhaps ``drawn(evaluation, row, picture) -> Image``, where truth and prediction have places in the picture.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from vitrail import registry
from vitrail.errors import UserError

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
    """The module that shows this evaluation; a third party's metrics are shown as those of ours that they extend.

    Raises:
        UserError: they extend none.
    """
    known = {f"vitrail.metrics.{name}": name for name in registry.names("report.families")}
    lineage = [cls.__module__ for cls in type(evaluation.family).__mro__]
    name = next((known[module] for module in lineage if module in known), None)
    if name is None:
        raise UserError(
            f"the metrics of {lineage[0]} extend none of {', '.join(known)}, so no report shows them; "
            "measure with vitrail.evaluate"
        )
    module: Any = registry.load("report.families", name)
    return module
