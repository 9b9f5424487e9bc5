"""What a comparison of samples with real pictures found, with everything that its numbers depend on."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

from vitrail.metrics import Headline
from vitrail.metrics.generation import Metrics
from vitrail.results import Column, ResultTable, Tabular

MORE = {
    "cas": Headline("a classifier trained on the samples, on real pictures", "{:.2%}"),
    "seams": Headline("energy at the patch period, against real pictures", "{:.3f}"),
}
BESIDE = ("fd_floor", "num_pictures")  # which stand in a column and a line of their own


@dataclass(frozen=True, repr=False)
class Fidelity(Tabular):
    """The measures of samples, and as a floor those of real training pictures in their place.

    Attributes:
        measures: the scalars of :class:`vitrail.metrics.generation.Metrics`, ``cas`` and ``seams``; NaN where something
            that they need was not given.
        floor: ``fd``, ``kid`` … and ``cas`` of as many real training pictures; NaN without.
        per_class: the number and the accuracy of the samples of each class, by the classifier.
        features: of which network, its digest, input size and resize.
        classifier: the same of what gave ``accuracy``; None without.
        pictures: how many were given and how many of each were compared, ``compared``.
        size: (height, width) of the samples, to which real pictures were brought by ``resize``.
    """

    measures: dict[str, float]
    floor: dict[str, float]
    per_class: list[dict[str, object]]
    features: dict[str, object]
    classifier: dict[str, object] | None
    pictures: dict[str, int]
    size: tuple[int, int]
    resize: str

    def __getitem__(self, name: str) -> float:
        """A measure by its name."""
        return self.measures[name]

    @property
    def table(self) -> ResultTable[str]:
        """A row a measure that has a value."""
        named = {**Metrics.headlines, **MORE}
        known = [name for name in named if name not in BESIDE and math.isfinite(self.measures[name])]
        columns: tuple[Column[str], ...] = (
            Column(lambda name: named[name].label, "measure", key="name"),
            Column(lambda name: named[name].show(self.measures[name]), "samples"),
            Column(lambda name: self.measures[name], key="samples"),
        )
        if any(math.isfinite(value) for value in self.floor.values()):
            floor = Column[str](lambda name: named[name].show(self.floor.get(name)), "training pictures")
            columns = (*columns, floor)
        return ResultTable(columns, tuple(known))

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types; what is undefined is None."""
        about = {field.name: getattr(self, field.name) for field in fields(self)}
        return about | {"measures": _finite(self.measures), "floor": _finite(self.floor), "size": list(self.size)}


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
