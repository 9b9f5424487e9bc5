"""How training samples are divided: a validation split or a fold is held out of them, and a share is learned from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from vitrail import console
from vitrail.data.indexing.grouped import parts, periods
from vitrail.data.indexing.split import folds, share, stratified
from vitrail.errors import UserError

if TYPE_CHECKING:
    from vitrail.data.source import Source, SourceConfig


def divide(found: dict[str, Source], config: SourceConfig) -> tuple[dict[str, Source], str]:
    """The splits with a validation split where labelled data has none, or with the fold to hold out, and with the share
    of the training split to learn from; and how that was done.

    Raises:
        UserError: columns that the source does not have, or too few groups, times or samples.
    """
    _require_columns(found, config)
    _warn_of_leaks(found, config)
    how = ""
    train = found.get("train")
    if train is None:
        return found, how
    if config.folds is not None and "val" in found:
        console.note(f"folds: the val split of {config.spec!r} is left out, since each fold holds out its own")
    wanted = config.folds is not None or (bool(config.val_fraction) and "val" not in found)
    if config.labelled and wanted and len(train) > 1:
        kept, held, how = hold_out(train, config, config.val_fraction)
        if len(held):
            found = found | {"train": train.subset(kept), "val": train.subset(held)}
    if config.train_fraction < 1:
        train = found["train"]
        found = found | {"train": train.subset(share(train.strata(), config.train_fraction, config.split_seed))}
        how += f" (train is {config.train_fraction:.2%} of all, seed {config.split_seed})"
    return found, how


def hold_out(train: Source, config: SourceConfig, fraction: float) -> tuple[np.ndarray, np.ndarray, str]:
    """Sorted indices (kept, held out) of a training split, and how they were chosen.

    Of every class alike; none, where no class has two samples. A group is on one side as a whole. With times the latest
    are held out: fold i learns from the periods up to i and holds out the next one, so that no fold learns from the
    future.

    Raises:
        UserError: as :func:`divide`.
    """
    seed, number, fold = config.split_seed, config.folds, config.fold
    if number is not None and fold > number:
        raise UserError(f"fold {fold} is none of the {number} folds; choose 1 to {number}")
    try:
        if train.times is not None:
            shares = [1 - fraction, fraction] if number is None else [1 / (number + 1)] * (number + 1)
            part, own = periods(train.times, train.groups, shares), 1 if number is None else fold
            how = f"the latest by {config.time_column!r}" if number is None else f"fold {fold} of {number} in time"
            kept, held = np.flatnonzero(part < own), np.flatnonzero(part == own)
        elif train.groups is not None:
            shares = [fraction, 1 - fraction] if number is None else [1 / number] * number
            part, own = parts(train.strata(), train.groups, shares, seed), 0 if number is None else fold - 1
            how = f"whole groups of {config.group_column!r}, seed {seed}"
            how = how if number is None else f"fold {fold} of {number}, {how}"
            kept, held = np.flatnonzero(part != own), np.flatnonzero(part == own)
        elif number is not None:
            part = folds(train.strata(), number, seed)
            how = f"fold {fold} of {number}, seed {seed}"
            kept, held = np.flatnonzero(part != fold - 1), np.flatnonzero(part == fold - 1)
        else:
            kept, held = stratified(train.strata(), fraction, seed)
            if not len(held):
                return kept, held, " (no val, since no class has two images to hold one out)"
            return kept, held, f" (val is {fraction:.0%} of train, seed {seed})"
    except UserError as error:
        column = config.group_column if train.times is None else config.time_column
        raise UserError(f"{config.spec!r}: column {column!r}: {error}; choose another column or fewer folds") from None
    if not len(held):
        raise UserError(f"{len(train)} samples are too few for {number} folds; lower folds")
    return kept, held, f" (val is {len(held) / len(train):.0%} of train, {how})"


def _require_columns(found: dict[str, Source], config: SourceConfig) -> None:
    for setting, column, values in (
        ("group_column", config.group_column, [source.groups for source in found.values()]),
        ("time_column", config.time_column, [source.times for source in found.values()]),
    ):
        if column is not None and any(value is None for value in values):
            raise UserError(
                f"{config.spec!r} is no table and has no column {column!r}; list its images in a .csv with one, "
                f"or leave out {setting}"
            )


def _warn_of_leaks(found: dict[str, Source], config: SourceConfig) -> None:
    """Say where splits that the data brings share groups, or learn from the future."""
    train = found.get("train")
    for name, source in found.items():
        if train is None or source is train:
            continue
        if train.groups is not None and source.groups is not None:
            shared = len(np.intersect1d(train.groups, source.groups))
            if shared:
                console.warn(
                    f"{shared:,} groups of column {config.group_column!r} are in train and in {name}: "
                    f"the score on {name} will be too high"
                )
        if train.times is not None and source.times is not None and train.times.max() >= source.times.min():
            console.warn(f"train reaches into the time of {name} by column {config.time_column!r}")
