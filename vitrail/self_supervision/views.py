"""The views of an image that methods compare, and the features of an image."""

from __future__ import annotations

from torch import Tensor

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
