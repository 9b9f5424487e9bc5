"""Losses that are not finite, and the images that cause them."""

from __future__ import annotations

import torch

from vitrail.data import Loader
from vitrail.data.batch import single, to_device
from vitrail.evaluation import evaluation_mode
from vitrail.trainable import Trainable

MAX_FAULTS = 3  # in a row
MAX_NAMES = 8


def culprits(model: Trainable, loader: Loader, epoch: int, step: int, device: torch.device) -> str:
    """A message that names the images of a batch whose own loss is not finite.

    A batch is a function of (epoch, step), so it is loaded again instead of being kept.
    """
    batch = next(loader.batches(epoch, step))
    rows = [single(batch, i) for i in range(len(batch["index"]))]
    with evaluation_mode(model), torch.no_grad():
        losses = [model.loss(to_device(row, device))["loss"] for row in rows]
    index = batch["index"][~torch.stack(losses).isfinite().cpu()].tolist()
    if not index:
        return "no image of the batch is at fault alone: the training has diverged, so lower optimizer.lr"
    names = ", ".join(loader.source.name(i) for i in index[:MAX_NAMES])
    more = f" and {len(index) - MAX_NAMES} more" if len(index) > MAX_NAMES else ""
    return f"caused by {names}{more}: repair or remove it, or lower optimizer.lr"
