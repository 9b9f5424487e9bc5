"""Looking at data through a model's eyes: near twins across splits, labels that neighbours contradict, outliers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from vitrail.data.source import Source, Splits
from vitrail.errors import UserError
from vitrail.ops.neighbours import nearest
from vitrail.predictor import Predictor, Sample

NEIGHBOURS = 10
TWIN = 0.985  # cosine of features that are as good as equal, unless the model finds most images so alike
AGREED = 0.8  # share of neighbours that are of one other class
FAR = 6.0  # times the spread of distances, beyond the middle one
_SPREAD = 1.4826  # from the median absolute deviation to a standard deviation
_FEW = 4


@dataclass(frozen=True)
class Noticed:
    """An image that a person should look at.

    Attributes:
        split, index, name: which one.
        label: in words.
        note: what is noticed.
        score: by which the most striking come first.
        like: (split, index) of another image to look at beside it, or None.
    """

    split: str
    index: int
    name: str
    label: str
    note: str
    score: float
    like: tuple[str, int] | None = None


@dataclass(frozen=True)
class Look:
    """What a model notices, each list with the most striking first."""

    twins: list[Noticed]
    contradicted: list[Noticed]
    outliers: list[Noticed]

    def items(self) -> list[tuple[str, str, list[Noticed]]]:
        """(name of a file, heading, what was noticed)."""
        return [
            ("near_twins", "near twins across splits", self.twins),
            ("contradicted_labels", "labels that neighbours contradict", self.contradicted),
            ("outliers", "outliers", self.outliers),
        ]


def look(predictor: Predictor, splits: Splits, batch_size: int = 32) -> Look:
    """Compare the features of all images that can be read.

    Raises:
        UserError: hardly an image can be.
    """
    rows = [(split, index, source) for split, source in splits.items() for index in range(len(source))]
    samples = [Sample(source.name(index), partial(source.read, index)) for _, index, source in rows]
    found = predictor.stream(samples, batch_size, embed=True)
    read = [(row, vector) for row, (_, vector) in zip(rows, found, strict=True) if not isinstance(vector, UserError)]
    if len(read) < _FEW:
        raise UserError(f"{len(read)} images that can be read are too few to compare; give more")
    rows, features = [row for row, _ in read], torch.from_numpy(np.stack([vector for _, vector in read]))
    features = features - features.mean(dim=0)  # else all share a direction, and are alike
    similar, index = (part.numpy() for part in nearest(features, features, NEIGHBOURS, leave_one_out=True))
    split_of = np.array([split for split, _, _ in rows])
    twins = _twins(rows, split_of, features)
    return Look(twins, _contradicted(rows, similar, index), _outliers(rows, similar))


Row = tuple[str, int, Source]


def _twins(rows: Sequence[Row], split_of: np.ndarray, features: torch.Tensor) -> list[Noticed]:
    """Of other splits, images whose features are those of one in training."""
    train, other = np.flatnonzero(split_of == "train"), np.flatnonzero(split_of != "train")
    if not len(train) or not len(other):
        return []
    similar, index = (part.numpy()[:, 0] for part in nearest(features[train], features[other], 1))
    found = []
    for place in np.flatnonzero(similar >= TWIN).tolist():
        split, own, source = rows[train[index[place]]]
        note = f"looks like {source.name(own)} of {split}"
        found.append(_noticed(rows[other[place]], note, float(similar[place]), (split, own)))
    return _sorted(found)


def _contradicted(rows: Sequence[Row], similar: np.ndarray, index: np.ndarray) -> list[Noticed]:
    """Images of one class whose neighbours are nearly all of another one."""
    if not rows[0][2].target_kind.exclusive:
        return []
    labels = np.array([np.asarray(source.targets)[own] for _, own, source in rows], np.int64)
    found = []
    for row, neighbours in enumerate(index):
        votes = np.bincount(labels[neighbours][np.isfinite(similar[row])])
        most, share = int(votes.argmax()), votes.max() / votes.sum()
        if most != labels[row] and share >= AGREED:
            classes = rows[row][2].classes
            note = f"{votes.max()} of {votes.sum()} neighbours are {classes[most]}"
            like = next(each for each in neighbours.tolist() if labels[each] == most)
            score = float(share + similar[row].mean() / 10)
            found.append(_noticed(rows[row], note, score, (rows[like][0], rows[like][1])))
    return _sorted(found)


def _outliers(rows: Sequence[Row], similar: np.ndarray) -> list[Noticed]:
    """Images that are farther from their neighbours than the others are."""
    distances = 1 - np.where(np.isfinite(similar), similar, np.nan)
    far = np.nanmean(distances[:, : max(NEIGHBOURS // 2, 1)], axis=1)
    middle = float(np.median(far))
    spread = _SPREAD * float(np.median(np.abs(far - middle))) + 1e-6
    away = (far - middle) / spread
    found = [
        _noticed(rows[row], f"{away[row]:.1f} spreads farther from its neighbours than the middle", float(away[row]))
        for row in np.flatnonzero(away > FAR).tolist()
    ]
    return _sorted(found)


def _noticed(row: Row, note: str, score: float, like: tuple[str, int] | None = None) -> Noticed:
    split, index, source = row
    label = source.target_kind.text(source.targets, index, source.classes)
    return Noticed(split, index, source.name(index), label, note, score, like)


def _sorted(found: list[Noticed]) -> list[Noticed]:
    return sorted(found, key=lambda each: -each.score)
