"""Masked autoencoder (He et al. 2022): the encoder gets a quarter of the patches, a light decoder predicts the others.

B batch, C channels, N patches of P pixels, K of them visible, D and d the widths of encoder and decoder.
"""

from __future__ import annotations

import math
from typing import Annotated

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn
from torch.nn.functional import layer_norm, mse_loss

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.sample_random import uniform
from vitrail.nn.block import Block, BlockConfig
from vitrail.nn.init import initialise
from vitrail.nn.rotary import of_patches
from vitrail.ops.grid import Pair
from vitrail.ops.masking import Mask, mask_by_noise, take
from vitrail.ops.patches import patchify, unpatchify
from vitrail.ops.positions import sincos_2d
from vitrail.ops.relative import Cells, Offsets
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.panels import Panel
from vitrail.trainable import Losses
from vitrail.vit import ViT, ViTConfig

EPS = 1e-6  # of the normalised pixels


@config
class Config:
    """Args:
    mask_ratio: share of the patches that the encoder does not see.
    normalise: predict pixels with the mean and deviation of their patch taken out.
    decoder_dim, decoder_depth, decoder_heads, decoder_mlp_dim: the decoder's size; the paper's by default.
    """

    model: ViTConfig
    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.75
    normalise: bool = True
    decoder_dim: Annotated[int, Field(gt=0, le=16384, multiple_of=4)] = 512
    decoder_depth: Annotated[int, Field(gt=0, le=256)] = 8
    decoder_heads: Annotated[int, Field(gt=0, le=256)] = 16
    decoder_mlp_dim: Annotated[int, Field(gt=0, le=131072)] = 2048

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.model.embed.kind != "patch" or self.model.embed.stride not in (None, self.model.patch_size):
            raise ValueError("MAE drops patches before the encoder, so it needs embed.kind=patch without overlap")
        if self.model.needs_grid:
            raise ValueError("relative positions belong to the full grid, and MAE encodes a part; choose others")
        if self.decoder_dim % self.decoder_heads:
            raise ValueError(f"decoder_dim {self.decoder_dim} is not a multiple of decoder_heads {self.decoder_heads}")
        return self


class Decoder(nn.Module):
    """Visible tokens and mask tokens → pixels of every patch."""

    def __init__(self, config: Config, grid: Pair) -> None:
        super().__init__()
        model, dim = config.model, config.decoder_dim
        self.num_prefix = model.class_token + model.distillation_token + model.registers
        self.embed = nn.Linear(model.dim, dim)
        self.mask_token = nn.Parameter(torch.empty(1, 1, dim))
        self.positions = nn.Parameter(torch.empty(1, self.num_prefix + grid[0] * grid[1], dim), requires_grad=False)
        block = BlockConfig(norm_eps=model.block.norm_eps)
        self.blocks = nn.ModuleList(
            Block(dim, config.decoder_heads, config.decoder_mlp_dim, block) for _ in range(config.decoder_depth)
        )
        self.norm = nn.LayerNorm(dim, block.norm_eps)
        self.pixels = nn.Linear(dim, model.channels * model.patch_size[0] * model.patch_size[1])
        initialise(self)
        with torch.no_grad():
            nn.init.normal_(self.mask_token, std=0.02)
            self.positions[:, : self.num_prefix] = 0
            self.positions[:, self.num_prefix :] = sincos_2d(grid, dim).to(self.positions.device)

    def forward(self, tokens: Tensor, restore: Tensor, wanted: Tensor | None = None) -> Tensor:
        """(B P+K D, B N) → B N C·P, or B M C·P of the patches ``wanted`` (B, M) alone."""
        x = self.embed(tokens)
        prefix, visible = x[:, : self.num_prefix], x[:, self.num_prefix :]
        hidden = self.mask_token.to(x.dtype).expand(len(x), restore.shape[1] - visible.shape[1], -1)
        patches = take(torch.cat((visible, hidden), dim=1), restore)
        x = torch.cat((prefix, patches), dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        patches = x[:, self.num_prefix :]
        return self.pixels(self.norm(patches if wanted is None else take(patches, wanted)))


class Task(Pretraining):
    """An encoder and a decoder that is dropped after the pretraining."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.model)
        self.decoder = Decoder(config, self.vit.embed.grid(config.model.image_size))

    def reconstruct(self, images: Tensor, mask: Mask) -> Tensor:
        """B C H W → the predicted pixels of every patch, B N C·P, each patch ordered (C, p_h, p_w)."""
        return self.decoder(self.visible(images, mask.kept), mask.restore)

    def visible(self, images: Tensor, kept: Tensor) -> Tensor:
        """The encoder on the patches ``kept`` (B, K) alone: B P+K D."""
        tokens, _, rotation = self.vit.tokenise(images)
        prefix, patches = tokens.tensor_split((self.vit.num_prefix,), dim=1)
        if rotation is not None:
            assert not isinstance(rotation, Offsets | Cells)  # the config refuses relative positions
            rotation = of_patches(rotation, kept)
        return self.vit.encode(torch.cat((prefix, take(patches, kept)), dim=1), rotation)

    def mask(self, batch: Batch) -> Mask:
        """A random mask for each image."""
        images = batch["images"]
        grid = self.vit.embed.grid((images.shape[-2], images.shape[-1]))
        return mask_by_noise(uniform(batch["keys"], "mask", grid[0] * grid[1], images), self.config.mask_ratio)

    def target(self, pixels: Tensor) -> Tensor:
        """What to predict of patches (…, C·P) in float32 (section 3, "Reconstruction target")."""
        if not self.config.normalise:
            return pixels
        num = pixels.shape[-1]  # the paper divides by N − 1 where a layer norm divides by N, hence the factor
        share = (num - 1) / num
        return layer_norm(pixels, (num,), eps=EPS * share) * math.sqrt(share)

    def loss(self, batch: Batch, mask: Mask | None = None) -> Losses:
        """Mean squared error over the pixels of hidden patches."""
        images = batch["images"]
        mask = self.mask(batch) if mask is None else mask
        painted = self.decoder(self.visible(images, mask.kept), mask.restore, mask.dropped)
        pixels = take(patchify(images.float(), self.config.model.patch_size), mask.dropped)
        return {"loss": mse_loss(painted.float(), self.target(pixels))}

    def show(self, batch: Batch) -> list[Panel]:
        """The visible patches, with the others painted by the decoder, and the truth."""
        images, mask, patch = batch["images"], self.mask(batch), self.config.model.patch_size
        painted, pixels = self.reconstruct(images, mask).float(), patchify(images.float(), patch)
        if self.config.normalise:
            variance, mean = torch.var_mean(pixels, dim=-1, keepdim=True)
            painted = painted * (variance + EPS).sqrt() + mean
        grid, hidden = self.vit.embed.grid((images.shape[-2], images.shape[-1])), mask.hidden.unsqueeze(-1)
        seen, whole = (unpatchify(torch.where(hidden, other, pixels), patch, grid) for other in (pixels * 0, painted))
        return [Panel("seen", seen), Panel("reconstructed", whole), Panel("original", images)]
