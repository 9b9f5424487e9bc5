"""The decoder of DETR on a plain ViT: queries attend to the image in and around boxes that every layer refines.

Refinement layer by layer: Zhu et al. 2021 (Deformable DETR, section 4.2). Queries placed by boxes: Liu et al. 2022
(DAB-DETR). Attention drawn to a query's box, without deformable sampling: Lin et al. 2023 ("DETR Does Not Need
Multi-Scale or Locality Design", section 4).

Shapes: B images, Q queries, N memory tokens, D width, H heads. Boxes are ``cxcywh`` as shares of the image, in (0, 1).
"""

from __future__ import annotations

import math
from typing import Annotated, NamedTuple, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.box_distribution import DistributionConfig, DistributionHead
from vitrail.nn.box_refinement import BoxHead
from vitrail.nn.box_relation import BoxRelation
from vitrail.nn.layer import Layer
from vitrail.nn.levels import Level
from vitrail.nn.mlp import Mlp
from vitrail.ops import boxes as box_ops
from vitrail.ops.attention import attention
from vitrail.ops.box_distributions import Distribution

FREQUENCY = 20.0  # DAB-DETR's temperature of sines, for coordinates in [0, 1]
SHARPNESS = 8.0  # of the logarithm in the box bias, Lin et al. 2023
HIDDEN = 32  # units of the box bias


@config
class DecoderConfig:
    """Args:
    dim: width of queries and memory.
    num_queries: objects that can be found in an image.
    relation: queries attend to each other by where their boxes lie, too (Relation-DETR).
    separate_heads: every layer has heads of its own for boxes and classes (Deformable DETR, D-FINE); else all share
        those of the last.
    distribution: layers refine distributions of where the sides of boxes lie (D-FINE), or None: the boxes themselves.
    """

    dim: Annotated[int, Field(gt=0, le=8192, multiple_of=8)] = 256
    depth: Annotated[int, Field(gt=0, le=64)] = 6
    heads: Annotated[int, Field(gt=0, le=256)] = 8
    mlp_dim: Annotated[int, Field(gt=0, le=65536)] = 1024
    num_queries: Annotated[int, Field(gt=0, le=10_000)] = 100
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    relation: bool = False
    separate_heads: bool = False
    distribution: DistributionConfig | None = None


class Queries(NamedTuple):
    """The input of the first layer. Groups of queries in one batch do not attend to each other."""

    content: Tensor
    """B Q D."""
    boxes: Tensor
    """B Q 4."""
    mask: Tensor | None = None
    """bool (B or 1, 1, Q, Q): which query (row) attends to which; None: each to all."""


class Decoded(NamedTuple):
    """What a layer makes of the queries."""

    content: Tensor
    """B Q D."""
    boxes: Tensor
    """B Q 4."""
    layer: int
    distribution: Distribution | None = None
    """Of the sides of these boxes, where the decoder refines distributions."""


class QueryAttention(nn.Module):
    """softmax(Q Kᵀ / √d + bias) V with separate queries, keys and values."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.q, self.k, self.v, self.out = (nn.Linear(dim, dim) for _ in range(4))

    def forward(self, queries: Tensor, keys: Tensor, values: Tensor, mask: Tensor | None) -> Tensor:
        """B Q D, B N D, B N D → B Q D; the mask is one of scaled_dot_product_attention, bool or added."""
        q, k, v = self._by_head(self.q(queries)), self._by_head(self.k(keys)), self._by_head(self.v(values))
        return self.out(attention(q, k, v, mask=mask).transpose(1, 2).flatten(2))

    def weights(self, queries: Tensor, keys: Tensor, values: Tensor, bias: Tensor) -> Tensor:
        """softmax(Q Kᵀ / √d + bias) alone, B H Q N; of the arguments of :meth:`forward`."""
        q, k = self._by_head(self.q(queries)), self._by_head(self.k(keys))
        return (q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1]) + bias).softmax(dim=-1)

    def _by_head(self, x: Tensor) -> Tensor:
        """B N D → B H N d."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)


class DecoderLayer(Layer):
    """Queries attend to each other, then to the image; an MLP follows. Each branch normalises its input."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        dim, heads = config.dim, config.heads
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim, 1e-6) for _ in range(3))
        self.among, self.image = QueryAttention(dim, heads), QueryAttention(dim, heads)
        self.mlp = Mlp(dim, config.mlp_dim, dropout=config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self, x: Tensor, places: Tensor, mask: Tensor | None, keys: Tensor, values: Tensor, bias: Tensor
    ) -> Tensor:
        """B Q D → B Q D.

        Args:
            places: the position embedding of the queries, B Q D.
            keys, values: the memory with and without its places, B N D.
            bias: of queries towards the memory, B H Q N.
        """
        y = self.norm1(x)
        x = x + self.dropout(self.among(y + places, y + places, y, mask))
        x = x + self.dropout(self.image(self.norm2(x) + places, keys, values, bias))
        return x + self.dropout(self.mlp(self.norm3(x)))


class BoxBias(nn.Module):
    """How much each head is drawn to a token, by where it lies from the sides of the query's box (Lin et al. 2023).

    One small MLP for the distances of a column to left and right, one for those of a row to top and bottom; both add.
    """

    def __init__(self, heads: int) -> None:
        super().__init__()
        self.column, self.row = (
            nn.Sequential(nn.Linear(2, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, heads)) for _ in range(2)
        )

    def forward(self, boxes: Tensor, level: Level) -> Tensor:
        """Boxes B Q 4 → B H Q h·w."""
        left, top, right, bottom = box_ops.cxcywh_to_xyxy(boxes.float()).unsqueeze(-2).unbind(-1)
        column = self.column(_distances(level.x.unsqueeze(1), left, right))
        row = self.row(_distances(level.y.unsqueeze(1), top, bottom))
        return (row.unsqueeze(3) + column.unsqueeze(2)).flatten(2, 3).permute(0, 3, 1, 2)


class DetrDecoder(nn.Module):
    """Queries and feature maps → the queries and boxes of every layer."""

    def __init__(self, config: DecoderConfig) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.place = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.bias = BoxBias(config.heads)
        self.relation = BoxRelation(config.heads) if config.relation else None
        self.layers = nn.ModuleList(DecoderLayer(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, 1e-6)
        self.box = BoxHead(dim)  # of distributions: of the boxes that they begin at
        early = config.depth - 1 if config.separate_heads and config.distribution is None else 0
        self.early = nn.ModuleList(BoxHead(dim) for _ in range(early))
        self.distributions = nn.ModuleList()
        if config.distribution is not None:
            count = config.depth if config.separate_heads else 1
            self.distributions.extend(DistributionHead(dim, config.distribution) for _ in range(count))

    def forward(self, queries: Queries, levels: list[Level]) -> list[Decoded]:
        """What each layer makes of the queries, in order; of distributions, the first layer also gives the boxes that
        these begin at, before its own. Boxes are detached between layers."""
        values = torch.cat([level.map.flatten(2).transpose(1, 2) for level in levels], dim=1)
        keys = values + torch.cat([_places(level, self.config.dim) for level in levels], dim=1).to(values.dtype)
        hidden = _hidden(levels)
        x, boxes = queries.content, queries.boxes
        found = list[Decoded]()
        for number, layer in enumerate(self.layers):
            bias = torch.cat([self.bias(boxes, level) for level in levels], dim=-1)
            if hidden is not None:
                bias = bias.masked_fill(hidden, -torch.inf)
            places = self.place(sines(boxes, self.config.dim // 2).flatten(-2).to(x.dtype))
            x = cast("DecoderLayer", layer)(
                x, places, self._among(boxes, queries.mask, x.dtype), keys, values, bias.to(keys.dtype)
            )
            found.extend(self._refined(number, self.norm(x), boxes, found))
            boxes = found[-1].boxes.detach()
        return found

    def _refined(self, layer: int, x: Tensor, boxes: Tensor, found: list[Decoded]) -> list[Decoded]:
        """What a layer adds: normalised queries B Q D with the boxes B Q 4 that they came with, refined."""
        if not len(self.distributions):
            head = cast("BoxHead", self.early[layer]) if layer < len(self.early) else self.box
            return [Decoded(x, head.refined(boxes, x), layer)]
        side = cast("DistributionHead", self.distributions[min(layer, len(self.distributions) - 1)])
        if layer:
            shifted, distribution = side(x, boxes, found[-1].distribution)
            return [Decoded(x, shifted, layer, distribution)]
        start = Decoded(x, self.box.refined(boxes, x), layer)
        shifted, distribution = side(x, start.boxes, None)
        return [start, Decoded(x, shifted, layer, distribution)]

    def _among(self, boxes: Tensor, mask: Tensor | None, dtype: torch.dtype) -> Tensor | None:
        """How queries see each other: a mask or a bias of attention."""
        if self.relation is None:
            return mask
        bias = self.relation(boxes)
        return (bias if mask is None else bias.masked_fill(~mask, -torch.inf)).to(dtype)


def sines(coordinates: Tensor, dim: int) -> Tensor:
    """Sines and cosines of ``dim`` / 2 wavelengths for each of (..., n) coordinates: (..., n, dim)."""
    steps = torch.arange(0, dim, 2, device=coordinates.device, dtype=torch.float32)
    angle = 2 * math.pi * coordinates.float().unsqueeze(-1) * FREQUENCY ** (-steps / dim) * SHARPNESS
    return torch.cat((angle.sin(), angle.cos()), dim=-1)


def _distances(centres: Tensor, start: Tensor, end: Tensor) -> Tensor:
    """From a box's two sides to each centre, on a logarithmic scale: B Q n 2."""
    distance = torch.stack((centres - start, centres - end), dim=-1)
    return distance.sign() * torch.log1p(distance.abs() * SHARPNESS) / math.log(SHARPNESS)


def _places(level: Level, dim: int) -> Tensor:
    """Sines of row and column, B h·w D."""
    x, y = sines(level.x, dim // 2).unsqueeze(1), sines(level.y, dim // 2).unsqueeze(2)
    return torch.cat((x.expand(-1, y.shape[1], -1, -1), y.expand(-1, -1, x.shape[2], -1)), dim=-1).flatten(1, 2)


def _hidden(levels: list[Level]) -> Tensor | None:
    """Padding of all levels, B 1 1 N."""
    if all(level.padding is None for level in levels):
        return None
    return torch.cat([cast("Tensor", level.padding).flatten(1) for level in levels], dim=1)[:, None, None]
