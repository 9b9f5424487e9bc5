"""Generated pictures beside real ones, by their features: distances, precision and recall, accuracy, memorising."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, NamedTuple, cast

import torch
from torch import Tensor

from vitrail.metrics import Headline, Rows, rows
from vitrail.metrics import Metrics as Base
from vitrail.ops.fidelity import frechet_distance, kernel_distances, memorising, neighbourhoods

FLOOR_DRAWS = 5  # of training pictures, since the distance of some hundreds varies by a third between draws
COMPARED = ("fd", "kid", "kid_std", "precision", "recall", "density", "coverage")
"""What is measured of samples and, as a floor, of real training pictures in their place."""


class FeaturePair(NamedTuple):
    """A real picture and the sample drawn in its place.

    Attributes:
        real, sample: features (D,).
        scores: of a classifier that saw the sample (K,); None: there is none.
    """

    real: Tensor
    sample: Tensor
    scores: Tensor | None = None

    def on_host(self) -> FeaturePair:
        """The same without gradients, on the CPU."""
        scores = None if self.scores is None else self.scores.detach().cpu()
        return FeaturePair(self.real.detach().cpu(), self.sample.detach().cpu(), scores)


class Metrics(Base):
    """From a :class:`FeaturePair` an image, and as targets the classes that were asked for, −1 where none was.

    ``compute()`` gives ``fd`` (Fréchet distance), ``kid`` and its deviation over subsets, ``precision``, ``recall``,
    ``density`` and ``coverage``; ``accuracy``, the share of samples that the classifier takes for the class asked for;
    and with training pictures ``fd_floor``, ``memorised`` and ``nearest_ratio``. ``num_pictures`` is N, which all of
    them depend on: compare numbers of equal N alone.

    Args:
        train: features (T, D) of real training pictures. N of them, drawn, stand in place of the samples for the floor,
            which is NaN of fewer; its Fréchet distance is the mean over 5 draws. All of them are what samples may be
            copies of.
        key: of the draws.
    """

    scalars = (*COMPARED, "fd_floor", "accuracy", "memorised", "nearest_ratio", "num_pictures")
    headlines: ClassVar[dict[str, Headline]] = {
        "fd": Headline("Fréchet distance to real pictures", "{:.4g}"),
        "fd_floor": Headline("the same of real training pictures (the floor)", "{:.4g}"),
        "kid": Headline("kernel distance to real pictures (KID)", "{:.4g}"),
        "precision": Headline("samples among real pictures (precision)", "{:.2%}"),
        "recall": Headline("real pictures among samples (recall)", "{:.2%}"),
        "density": Headline("density of real pictures around samples", "{:.3f}"),
        "coverage": Headline("real pictures with a sample near by (coverage)", "{:.2%}"),
        "accuracy": Headline("samples that a classifier takes for their class", "{:.2%}"),
        "memorised": Headline("samples nearer to a training picture than 95 % of unseen pictures", "{:.2%}"),
        "nearest_ratio": Headline("distance to the nearest training picture, against unseen pictures", "{:.3f}"),
        "num_pictures": Headline("pictures of each kind (N)", "{:.0f}"),
    }

    def __init__(self, names: Sequence[str], train: Tensor | None = None, key: int = 0) -> None:
        super().__init__(names)
        self._train, self._key = train, key
        self._drawn: list[FeaturePair] = []
        self._classes: list[int] = []

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images."""
        found = [cast("FeaturePair", row) for row in rows]
        assert len(found) == len(targets), f"{len(found)} samples for {len(targets)} classes"
        self._drawn += [row.on_host() for row in found]
        self._classes += [int(cast("int", each)) for each in targets]

    def compute(self) -> dict[str, float]:
        assert self._drawn, "compute() before the first update()"
        measures = compared(self._real, self._samples, self._key)
        share = ratio = float("nan")
        if self._train is not None and len(self._real) > 1:
            share, ratio = memorising(self._samples, self._real, self._train)
        right = self._right
        return measures | {
            "fd_floor": self.floor["fd"],
            "accuracy": float("nan") if right is None else float(right[1].double().mean()),
            "memorised": share,
            "nearest_ratio": ratio,
            "num_pictures": float(len(self._drawn)),
        }

    def details(self) -> dict[str, Any]:
        """``floor``: the measures of real training pictures in place of the samples; ``per_class``: the number and the
        accuracy of the samples of each class that has any."""
        right = self._right
        if right is None or not self.names:
            return {"floor": self.floor, "per_class": []}
        labels, hit = right
        counts = torch.bincount(labels, minlength=len(self.names))
        accuracy = torch.bincount(labels, hit.double(), minlength=len(self.names)) / counts
        found = rows(self.names, count=counts, accuracy=accuracy)
        return {"floor": self.floor, "per_class": [row for row in found if row["count"]]}

    @cached_property
    def floor(self) -> dict[str, float]:
        """The measures of N real training pictures; NaN where there are fewer."""
        if self._train is None or len(self._train) < len(self._drawn):
            return dict.fromkeys(COMPARED, math.nan)
        generator = torch.Generator().manual_seed(self._key & 0x7FFFFFFFFFFFFFFF)
        draws = [torch.randperm(len(self._train), generator=generator)[: len(self._drawn)] for _ in range(FLOOR_DRAWS)]
        distances = [frechet_distance(self._real, self._train[some]) for some in draws]
        return compared(self._real, self._train[draws[0]], self._key) | {"fd": sum(distances) / len(distances)}

    @cached_property
    def _real(self) -> Tensor:
        return torch.stack([row.real for row in self._drawn])

    @cached_property
    def _samples(self) -> Tensor:
        return torch.stack([row.sample for row in self._drawn])

    @cached_property
    def _right(self) -> tuple[Tensor, Tensor] | None:
        """Of the samples with a class and scores: the class (N,), and whether the classifier agrees, bool (N,)."""
        pairs = zip(self._drawn, self._classes, strict=True)
        known = [(row.scores, label) for row, label in pairs if row.scores is not None and label >= 0]
        if not known:
            return None
        labels = torch.tensor([label for _, label in known])
        return labels, torch.stack([scores for scores, _ in known]).argmax(dim=1) == labels


def compared(real: Tensor, samples: Tensor, key: int) -> dict[str, float]:
    """The :data:`COMPARED` measures of features (N, D) of samples against those of real pictures."""
    distances = torch.tensor(kernel_distances(real, samples, key), dtype=torch.float64)
    spread = float(distances.std(correction=0)) if len(distances) > 1 else math.nan
    found = {"fd": frechet_distance(real, samples), "kid": float(distances.mean()), "kid_std": spread}
    return found | neighbourhoods(real, samples)._asdict()
