"""An engine that runs another one on an image, on its mirror image, and on both turned by quarters."""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.engines import Engine
from vitrail.predictions import Prediction
from vitrail.tasks import Task

MIRRORED = (False, True)


class Views:
    """An engine that runs another one on every view of the images."""

    def __init__(self, engine: Engine, task: Task[Prediction]) -> None:
        self.engine, self.task = engine, task
        self.turns = range(4 if task.quarter_turns else 1)

    def __call__(self, images: Tensor, *padding: Tensor) -> Tensor:
        """Images (B, C, H, W) → averaged outputs."""
        size = (images.shape[-2], images.shape[-1])
        return self.task.average_views(self.each(images, *padding), MIRRORED * len(self.turns), size)

    def each(self, images: Tensor, *padding: Tensor) -> list[Tensor]:
        """The outputs of every view, turned back, in which every second one is still mirrored."""
        return [
            self.engine(*(_view(each, mirrored, turns) for each in (images, *padding))).rot90(-turns, (-2, -1))
            if turns
            else self.engine(*(_view(each, mirrored) for each in (images, *padding)))
            for turns in self.turns
            for mirrored in MIRRORED
        ]

    def embed(self, images: Tensor) -> Tensor:
        """Images (B, C, H, W) → the mean vectors (B, D)."""
        vectors = [self.engine.embed(_view(images, each, turns)) for turns in self.turns for each in MIRRORED]
        return torch.stack(vectors).mean(dim=0)


def _view(images: Tensor, mirrored: bool, turns: int = 0) -> Tensor:
    seen = images.flip(-1) if mirrored else images
    return seen.rot90(turns, (-2, -1)) if turns else seen
