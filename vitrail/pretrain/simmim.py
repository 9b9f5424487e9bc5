"""SimMIM (Xie et al. 2022): hidden patches become a mask token, and one linear layer predicts their pixels.

B batch, C channels, N patches of P pixels, D width.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.sample_random import uniform
from vitrail.ops.masking import mask_blocks
from vitrail.ops.patches import patchify, unpatchify
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.panels import Panel
from vitrail.trainable import Losses
from vitrail.vit import ViT, ViTConfig


@config
class Config:
    """Args:
    mask_ratio: share of the image that is hidden.
    mask_size: side in pixels of what is hidden at a time, a multiple of the patch.
    """

    model: ViTConfig
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.6
    mask_size: Annotated[int, Field(gt=0)] = 32

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if any(self.mask_size % patch for patch in self.model.patch_size):
            raise ValueError(f"mask_size {self.mask_size} is not a multiple of the patch size {self.model.patch_size}")
        if self.model.patch_embed.stride not in (None, self.model.patch_size):
            raise ValueError("overlapping patches would see what is hidden; leave out embed.stride")
        return self


class Task(Pretraining):
    """An encoder with a mask token, and a linear layer to pixels."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        model = config.model
        self.vit = ViT(model)
        self.mask_token = nn.Parameter(torch.empty(1, 1, model.dim))
        self.pixels = nn.Linear(model.dim, model.channels * model.patch_size[0] * model.patch_size[1])
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    def reconstruct(self, images: Tensor, hidden: Tensor) -> Tensor:
        """B C H W and bool (B, N) → the predicted pixels of every patch, B N C·P, each patch ordered (C, p_h, p_w)."""
        patches = self.vit.embed(images)
        masked = torch.where(hidden.unsqueeze(-1), self.mask_token.to(patches.dtype), patches)
        tokens, _, rotation = self.vit.tokenise(images, masked)
        return self.pixels(self.vit.encode(tokens, rotation)[:, self.vit.num_prefix :])

    def mask(self, batch: Batch) -> Tensor:
        """A random mask for each image: bool (B, N)."""
        images = batch["images"]
        grid = self.vit.embed.grid((images.shape[-2], images.shape[-1]))
        height, width = (max(self.config.mask_size // patch, 1) for patch in self.config.model.patch_size)
        blocks = -(-grid[0] // height) * -(-grid[1] // width)
        noise = uniform(batch["keys"], "mask", blocks, images)
        return mask_blocks(noise, grid, self.config.mask_ratio, (height, width))

    def loss(self, batch: Batch, hidden: Tensor | None = None) -> Losses:
        """Mean absolute error over the pixels of all hidden patches; where blocks are cut, some images have more."""
        images = batch["images"]
        count = self.divisors(batch)["hidden"] if hidden is None else hidden.sum()
        hidden = self.mask(batch) if hidden is None else hidden
        pixels = patchify(images.float(), self.config.model.patch_size)
        error = (self.reconstruct(images, hidden).float() - pixels).abs().mean(dim=-1)
        return {"loss": (error * hidden).sum() / count}

    def counts(self, batch: Batch) -> dict[str, Tensor]:
        """The hidden patches."""
        return {"hidden": self.mask(batch).sum()}

    def show(self, batch: Batch) -> list[Panel]:
        """The image without what is hidden, with that predicted, and the truth."""
        images, hidden, patch = batch["images"], self.mask(batch).unsqueeze(-1), self.config.model.patch_size
        painted, pixels = self.reconstruct(images, hidden.squeeze(-1)).float(), patchify(images.float(), patch)
        grid = self.vit.embed.grid((images.shape[-2], images.shape[-1]))
        seen, whole = (unpatchify(torch.where(hidden, other, pixels), patch, grid) for other in (pixels * 0, painted))
        return [Panel("seen", seen), Panel("reconstructed", whole), Panel("original", images)]
