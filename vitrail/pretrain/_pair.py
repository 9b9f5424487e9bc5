"""The two views of each image that contrastive methods compare."""

from __future__ import annotations

from torch import Tensor

from vitrail.data import views_of
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.ops.collective import num_ranks
from vitrail.tasks import Task


def pair_of(batch: Batch, task: Task) -> tuple[Tensor, Tensor]:
    """Two views, B C H W each.

    Raises:
        UserError: another number of views, or in training no second image to tell the first from.
    """
    views = views_of(batch)
    if len(views) != 2:
        raise UserError(f"{task.name!r} compares two views of an image, not {len(views)}; give data.views two in all")
    # Outside training the loss of one image may be asked for: which one of a batch is at fault?
    if task.training and len(views[0]) * num_ranks() < 2:
        raise UserError(
            f"{task.name!r} tells the images of a batch apart and there is one; "
            "set data.loader.batch_size to 2 or more for each piece of accumulate"
        )
    first, second = views
    return first, second
