"""Where a model restores a picture otherwise when it is turned or mirrored.

It is the spread of eight views (the self-ensemble of test-time augmentation): where it is large, the result depends on
what should not matter. It is no probability of an error, and what a model gets wrong in all views alike is not seen.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.config import config
from vitrail.engines.views import MIRRORED, Views
from vitrail.errors import UserError
from vitrail.explain import Heat
from vitrail.explain.restored import makes_pictures, pixel_heat, require_small
from vitrail.tasks import Task
from vitrail.trainable import EncoderModule

LEVELS = 255


@config
class Options:
    """None."""


def suits(task: EncoderModule) -> bool:
    """Does it make pictures that turn?"""
    return makes_pictures(task) and isinstance(task, Task) and task.quarter_turns


@torch.inference_mode()
def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[Heat]:
    """One map: the standard deviation over the views, in grey levels of 255, the mean of the channels.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: a task that makes no pictures, or too many pixels.
    """
    if not isinstance(task, Task) or not suits(task):
        raise UserError(f"{task.name} makes no pictures; disagreement is of restored ones")
    require_small(images)
    spread = LEVELS * deviation(task, images)[0].mean(dim=0)
    about = f"mean {float(spread.mean()):.2f}, most {float(spread.max()):.1f} grey levels"
    return [pixel_heat(f"disagreement of eight views: {about}", spread, mean=True)]


def deviation(task: Task, images: Tensor) -> Tensor:
    """(B, C, H, W) → the standard deviation of the restored values, (B, C, s·H, s·W)."""
    views = Views(task, task)
    pictures = [
        each.flip(-1) if mirrored else each
        for each, mirrored in zip(views.each(images), MIRRORED * len(views.turns), strict=True)
    ]
    return torch.stack(pictures).std(dim=0, unbiased=False)
