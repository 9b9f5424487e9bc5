"""The views of an image that methods compare, the features of an image, and random numbers per sample."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitrail.data import keyed_random
from vitrail.data.batch import Batch, views_of
from vitrail.errors import UserError
from vitrail.ops.collective import num_ranks
from vitrail.trainable import Trainable
from vitrail.vit import Features


def pair_of(batch: Batch, model: Trainable) -> tuple[Tensor, Tensor]:
    """Two views, B C H W each.

    Raises:
        UserError: another number of views, or in training no second image to compare with.
    """
    views = views_of(batch)
    if len(views) != 2:
        raise UserError(f"{model.name!r} compares two views of an image, not {len(views)}; give data.views two in all")
    # outside training the loss of one image is computed to find which of a batch is at fault
    if model.training and len(views[0]) * num_ranks() < 2:
        raise UserError(
            f"{model.name!r} compares the images of a batch and there is one; set data.loader.batch_size to 2 or more"
        )
    first, second = views
    return first, second


def pooled(features: Features) -> Tensor:
    """One vector per image: the class token, or the mean of the patches where there is none, B D."""
    return features.patches.mean(dim=1) if features.cls is None else features.cls


def uniform(batch: Batch, stream: str, num: int, like: Tensor) -> Tensor:
    """Numbers in [0, 1), (B, num) float32 on the device of ``like``, that depend on each sample's key alone.

    Neither the batch nor the rank that a sample is in changes them, so several processes learn what one learns.
    """
    keys = batch["keys"].numpy().view(np.uint64)
    numbers = torch.from_numpy(keyed_random.uniform(keys, stream, num)).float()
    return numbers.clamp_(max=1 - 2**-24).to(like.device, non_blocking=True)  # rounding could make 1
