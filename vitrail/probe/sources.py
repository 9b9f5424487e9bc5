"""Which images a probe learns from, chooses its settings on, and measures on."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from vitrail.console import note
from vitrail.data.division import hold_out
from vitrail.data.indexing.split import share
from vitrail.data.source import Source, SourceConfig, open_source
from vitrail.errors import UserError, did_you_mean

HELD_OUT = 0.1  # of the training images, where the data brings no images to choose settings on


@dataclass(frozen=True)
class Roles:
    """The sources of a probe; ``split`` is what the data calls the one that is measured on."""

    train: Source
    val: Source
    test: Source
    split: str

    @property
    def counts(self) -> dict[str, int]:
        """Images by role."""
        return {"train": len(self.train), "val": len(self.val), "test": len(self.test)}


def find(config: SourceConfig, split: str | None) -> Roles:
    """Open the data.

    Args:
        split: to measure on; default: test where there is one, else val.

    Raises:
        UserError: labels that are no classes, no images to learn from or to measure on, no such split.
    """
    splits = open_source(config)
    if not splits.target_kind.exclusive:
        raise UserError(
            f"{config.spec!r} has {splits.target_kind.wording}; a probe needs one class label for each image"
        )
    found = dict(splits.items())
    train = found.pop("train", None)
    if train is None or not found:
        lacks = "training images" if train is None else "images to measure on"
        raise UserError(f"{config.spec!r} has no {lacks}; give data with the splits train and test, or train and val")
    if split is None:
        split = "test" if "test" in found else "val"
        note(f"split auto: {split}")
    if split not in found:
        raise UserError(f"cannot measure on the split {split!r}; {did_you_mean(split, found)}")
    if split != "val" and "val" in found:
        return Roles(train, found["val"], found[split], split)
    kept, held_out, _ = hold_out(train, dataclasses.replace(config, folds=None), HELD_OUT)
    if not len(held_out):
        raise UserError(f"{config.spec!r} has one training image a class and none to choose settings on; give more")
    note(f"settings are chosen on {len(held_out):,} of the training images, held out")
    return Roles(train.subset(kept), train.subset(held_out), found[split], split)


def draw(train: Source, fraction: float, seeds: int) -> list[np.ndarray]:
    """The labelled rows for each seed; there is one way to take all."""
    return [share(train.strata(), fraction, seed) for seed in range(seeds if fraction < 1 else 1)]
