"""Rotation prediction (Gidaris et al. 2018, RotNet): by how many right angles was the image turned?

B batch, C channels, S side of the square images, D width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.sample_random import uniform
from vitrail.errors import UserError
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.panels import Panel
from vitrail.trainable import Losses
from vitrail.vit import ViT, ViTConfig


@config
class Config:
    """Args:
    all_rotations: learn from every image in all four ways in each step, as the paper does, at four times the cost of
        one random way.
    """

    model: ViTConfig
    all_rotations: bool = True


class Task(Pretraining):
    """An encoder, and a linear layer from the class token, or the mean of the patches, to the four rotations."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.model)
        self.head = nn.Linear(config.model.dim, 4)

    def turns(self, batch: Batch) -> Tensor:
        """A random number of right angles for each image: int64 (B,)."""
        return (4 * uniform(batch["keys"], "turns", 1, batch["images"])[:, 0]).long() % 4

    def loss(self, batch: Batch) -> Losses:
        """Cross-entropy over the four rotations, and the accuracy."""
        images = batch["images"]
        if self.config.all_rotations:
            turns = torch.arange(4, device=images.device).repeat_interleave(len(images))
            images = every_way(images).flatten(0, 1)
        else:
            turns = self.turns(batch)
            images = turned(images, turns)
        logits = self.head(self.forward(images)).float()  # a call of self would shard the head under FSDP
        return {"loss": F.cross_entropy(logits, turns), "accuracy": (logits.argmax(dim=1) == turns).float().mean()}

    def show(self, batch: Batch) -> list[Panel]:
        """The image as it was turned, and turned back by the model's prediction."""
        images = turned(batch["images"], self.turns(batch))
        back = -self.head(self(images)).argmax(dim=1)
        return [Panel("turned", images), Panel("turned back", turned(images, back))]


def every_way(images: Tensor) -> Tensor:
    """Images turned counter-clockwise by 0, 90, 180 and 270 degrees: B C S S → 4 B C S S.

    Raises:
        UserError: images that are not square.
    """
    height, width = images.shape[-2:]
    if height != width:
        raise UserError(
            f"rotation learns from square images, not {height}×{width}; set model.image_size and "
            "data.preprocess.size to one number"
        )
    return torch.stack([images.rot90(number, (2, 3)) for number in range(4)])


def turned(images: Tensor, turns: Tensor) -> Tensor:
    """Each image turned counter-clockwise by its own number of right angles, int64 (B,).

    Errors as :func:`every_way`.
    """
    return every_way(images)[turns % 4, torch.arange(len(images), device=images.device)]
