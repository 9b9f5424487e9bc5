"""Weighted nearest neighbours, with nothing to train (Wu et al. 2018; the protocol of DINO, Caron et al. 2021)."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, PositiveInt
from torch import Tensor

from vitrail.config import config
from vitrail.ops.neighbours import nearest, weighted_vote
from vitrail.probe import Sets
from vitrail.probe.features import gathered
from vitrail.probe.result import Outcome, Setting

TAKES = "vectors"


@config
class Options:
    """Args:
    k: neighbours that vote, each number by itself; at most all labelled images.
    temperature: a neighbour's vote weighs exp(cosine similarity / temperature).
    """

    k: Annotated[tuple[PositiveInt, ...], Field(min_length=1)] = (10, 20, 100, 200)
    temperature: Annotated[float, Field(gt=0)] = 0.07


def measure(sets: Sets, options: Options, seed: int) -> Outcome:
    """The votes for validation and test images of the labelled training images."""
    known, labels = gathered(sets.train)
    counts = sorted({min(k, len(known)) for k in options.k})

    def accuracies(queries: Tensor, truth: Tensor) -> list[float]:
        similarity, index = nearest(known, queries, counts[-1])
        votes = (
            weighted_vote(similarity[:, :k], labels[index[:, :k]], sets.num_classes, options.temperature)
            for k in counts
        )
        return [float((each.argmax(dim=1) == truth).double().mean()) for each in votes]

    val, test = (accuracies(*gathered(each)) for each in (sets.val, sets.test))
    settings = tuple(Setting({"k": k}, *both) for k, *both in zip(counts, val, test, strict=True))
    if max(options.k) > len(known):
        return Outcome(settings, (f"k is at most {len(known)}, the number of labelled images",))
    return Outcome(settings)
