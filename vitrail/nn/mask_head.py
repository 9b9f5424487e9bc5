"""Masks of queries: a query's embedding, multiplied with that of each pixel (Cheng et al. 2022, Mask2Former, section 3;
Li et al. 2023, Mask DINO, section 3.3).

Shapes: B images, Q queries, D width, (h, w) token grid, (H', W') the masks' own grid.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.dense_heads import ConvBlock, resized
from vitrail.nn.feature_pyramid import cleared
from vitrail.ops.patches import padded_cells


@config
class MaskConfig:
    """Args:
    stride: pixels of the input, along each side, in a cell of the masks.
    dim: width of the embeddings of pixels and queries.
    """

    stride: Literal[1, 2, 4, 8, 16] = 4
    dim: Annotated[int, Field(gt=0, le=1024, multiple_of=8)] = 128


class PixelEmbedding(nn.Module):
    """Images and the backbone's map → an embedding for each cell of ``stride`` pixels.

    A few convolutions of the image give the edges, in place of the early stages that a plain ViT does not have; the
    tokens give the semantics.
    """

    def __init__(self, channels: int, inputs: int, config: MaskConfig) -> None:
        super().__init__()
        self.stride = config.stride
        halvings = config.stride.bit_length() - 1
        self.edges = nn.ModuleList()
        for step in range(max(halvings, 1)):
            width = max(config.dim >> (max(halvings, 1) - 1 - step), 8)
            self.edges.append(ConvBlock(channels, width, stride=2 if halvings else 1))
            channels = width
        self.tokens = nn.Conv2d(inputs, channels, 1)
        self.mixed = ConvBlock(channels, channels)
        self.output = nn.Conv2d(channels, config.dim, 1)

    def forward(self, images: Tensor, map_: Tensor, padding: Tensor | None) -> Tensor:
        """B C H W and B D h w → B D' H' W'.

        Args:
            padding: bool (B, H, W), pixels that convolutions do not read.
        """
        x = images
        for block in self.edges:
            x = block(_visible(x, padding))
        x = x + resized(self.tokens(map_), (x.shape[-2], x.shape[-1]))
        return self.output(self.mixed(_visible(x, padding)))


class MaskHead(nn.Module):
    """Queries and images → masks."""

    def __init__(self, channels: int, inputs: int, dim: int, config: MaskConfig) -> None:
        super().__init__()
        self.pixels = PixelEmbedding(channels, inputs, config)
        self.query = nn.Sequential(nn.Linear(dim, dim), nn.ReLU(), nn.Linear(dim, config.dim))
        self.scale = config.dim**-0.5

    def forward(self, x: Tensor, images: Tensor, map_: Tensor, padding: Tensor | None) -> Tensor:
        """Queries B Q D → logits B Q H' W'."""
        pixels = self.pixels(images, map_, padding)
        return torch.einsum("bqd,bdhw->bqhw", self.embedded(x), pixels)

    def embedded(self, x: Tensor) -> Tensor:
        """Queries (…, D) → what embeddings of pixels are multiplied with, (…, D')."""
        return self.query(x) * self.scale

    def chosen(self, x: Tensor, pixels: Tensor, image: Tensor) -> Tensor:
        """Some queries (M, D) of the images ``image`` (M,), whose pixels are embedded, B D' H' W' → logits M H' W'."""
        return torch.einsum("md,mdhw->mhw", self.embedded(x), pixels[image])


def _visible(x: Tensor, padding: Tensor | None) -> Tensor:
    """Zero where all pixels of a cell are padding."""
    if padding is None:
        return x
    return cleared(x, padded_cells(padding, (x.shape[-2], x.shape[-1])))
