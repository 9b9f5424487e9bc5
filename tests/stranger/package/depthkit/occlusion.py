"""The explain method: cover each patch in turn, and measure how far the score falls (Zeiler & Fergus 2014)."""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.config import config
from vitrail.explain import Heat, Target, chosen_output, class_scores, has_answers, heat
from vitrail.trainable import EncoderModule, image_encoder


@config
class Options:
    """Args:
    target: index of the output to explain; default: the largest.
    fill: value of the covered pixels, after normalisation.
    """

    target: Target = None
    fill: float = 0.0


def suits(task: EncoderModule) -> bool:
    """Whether it has outputs to explain."""
    return has_answers(task)


def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[Heat]:
    """One map of (1, C, H, W): how far the score falls where the patch is covered."""
    rows, columns = grid = image_encoder(task).grid(images)
    height, width = images.shape[-2] // rows, images.shape[-1] // columns
    before = class_scores(task, images, *padding)
    target = int(before.argmax()) if options.target is None else options.target
    falls = []
    for row in range(rows):
        for column in range(columns):
            covered = images.clone()
            covered[..., row * height : (row + 1) * height, column * width : (column + 1) * width] = options.fill
            falls.append(chosen_output(before, target) - chosen_output(class_scores(task, covered, *padding), target))
    return [heat("occlusion", torch.stack(falls).clamp(min=0), grid)]
