"""The decoder of LW-DETR (Chen et al. 2024): queries of several groups read places around their boxes, which stay.

Groups of queries do not see each other; each finds all objects, in training alone (Chen et al. 2023, Group DETR).

Shapes: B images, G groups of Q queries, N cells of all maps, D width, H heads. Boxes are ``cxcywh``; a change of a box
is (dx, dy, log w, log h) in units of its sides.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Annotated, Literal, NamedTuple, cast

import torch
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.deformable import DeformableAttention
from vitrail.nn.detection_tokens import TokenMlp
from vitrail.nn.detr_decoder import Queries, QueryAttention
from vitrail.nn.init import Initialised
from vitrail.nn.layer import Layer
from vitrail.nn.levels import Level
from vitrail.nn.mlp import Mlp
from vitrail.nn.proposals import without_class

TEMPERATURE = 10000.0  # from the shortest wavelength of a coordinate to the longest
SIDE = 0.05  # of a proposal's box on the first map, as a share of the image; it doubles from map to map
STRETCH = 10.0  # logarithm of how much longer a side becomes at most: more is no box of an image, but infinite soon
BORDER = 0.01  # a proposal nearer to 0 or 1 than this is none


@config
class DeformableConfig:
    """Args:
    dim: width of queries and maps.
    heads: of the attention among queries. ``reading_heads``: of the one that reads the maps.
    points: places of each map that a head of a query reads.
    num_queries: objects that can be found in an image.
    groups: of queries in training, each of which finds all objects; afterwards the first one does.
    """

    dim: Annotated[int, Field(gt=0, le=8192, multiple_of=8)] = 256
    depth: Annotated[int, Field(gt=0, le=64)] = 3
    heads: Annotated[int, Field(gt=0, le=256)] = 8
    reading_heads: Annotated[int, Field(gt=0, le=256)] = 16
    points: Annotated[int, Field(gt=0, le=64)] = 2
    mlp_dim: Annotated[int, Field(gt=0, le=65536)] = 2048
    mlp: Literal["relu", "gelu"] = "relu"
    num_queries: Annotated[int, Field(gt=0, le=10_000)] = 300
    groups: Annotated[int, Field(gt=0, le=64)] = 13
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0

    @model_validator(mode="after")
    def _divided(self) -> DeformableConfig:
        for name, heads in (("heads", self.heads), ("reading_heads", self.reading_heads)):
            if self.dim % heads:
                raise ValueError(f"dim {self.dim} is not a multiple of {name} {heads}")
        return self


class DeformableLayer(Layer):
    """Queries attend to each other, then to places of the maps; an MLP follows. Each sum is normalised."""

    def __init__(self, config: DeformableConfig, maps: int) -> None:
        super().__init__()
        dim = config.dim
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(dim, 1e-5) for _ in range(3))
        self.among = QueryAttention(dim, config.heads)
        self.image = DeformableAttention(dim, config.reading_heads, maps, config.points)
        self.mlp = Mlp(dim, config.mlp_dim, config.mlp, config.dropout)
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        x: Tensor,
        places: Tensor,
        boxes: Tensor,
        maps: Sequence[Tensor],
        hidden: Sequence[Tensor | None],
        groups: int,
    ) -> Tensor:
        """B G·Q D → B G·Q D.

        Args:
            places: the position embedding of the queries, B G·Q D.
            boxes, maps, hidden: as of :class:`DeformableAttention`.
        """
        q, v = apart(x + places, groups), apart(x, groups)
        among = self.among(q, q, v, None).unflatten(0, (x.shape[0], groups)).flatten(1, 2)
        x = self.norm1(x + self.dropout(among))
        x = self.norm2(x + self.dropout(self.image(x + places, boxes, maps, hidden)))
        return self.norm3(x + self.dropout(self.mlp(x)))


class DeformableDecoder(nn.Module):
    """Queries and feature maps → the queries of every layer."""

    def __init__(self, config: DeformableConfig, maps: int) -> None:
        super().__init__()
        self.config = config
        dim = config.dim
        self.place = nn.Sequential(nn.Linear(2 * dim, dim), nn.ReLU(), nn.Linear(dim, dim))
        self.layers = nn.ModuleList(DeformableLayer(config, maps) for _ in range(config.depth))
        self.norm = nn.LayerNorm(dim, 1e-5)

    def forward(self, queries: Queries, levels: Sequence[Level], groups: int = 1) -> list[Tensor]:
        """B G·Q D per layer, in order, normalised.

        Args:
            queries: their boxes are shares of the canvas.
        """
        x, boxes = queries.content, queries.boxes
        places = self.place(coordinate_sines(boxes, self.config.dim // 2).to(x.dtype))
        maps, hidden = [level.map for level in levels], [level.padding for level in levels]
        found = []
        for layer in self.layers:
            x = cast("DeformableLayer", layer)(x, places, boxes, maps, hidden, groups)
            found.append(self.norm(x))
        return found


class Best(NamedTuple):
    """The cells of a group that look most like an object."""

    logits: Tensor
    """B Q K, of the classes."""
    boxes: Tensor
    """B Q 4, as shares of the image."""


class GroupProposals(nn.Module):
    """A group's view of all cells: what each is, and the box around it."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.project = nn.Linear(dim, dim)
        self.norm = nn.LayerNorm(dim, 1e-5)
        self.score = nn.Linear(dim, num_classes)
        self.box = TokenMlp(dim, 4)

    def forward(self, cells: Tensor, around: Tensor, hidden: Tensor, num_queries: int) -> Best:
        """Cells B N D with their first boxes B N 4 → the best, as many as there are cells at most.

        Args:
            hidden: bool B N, true where a cell proposes nothing.
        """
        x = self.norm(self.project(cells))
        scores = self.score(x)
        logits = without_class(scores, hidden, scores.shape[-1])
        best = logits.amax(dim=-1).float().topk(min(num_queries, logits.shape[1]), dim=1).indices.unsqueeze(-1)
        chosen, start = x.gather(1, best.expand(-1, -1, x.shape[-1])), around.gather(1, best.expand(-1, -1, 4))
        return Best(self.score(chosen), moved(start, self.box(chosen)))


class LearnedQueries(Initialised):
    """A vector and a change of its proposal's box for each query of each group."""

    def __init__(self, groups: int, count: int, dim: int) -> None:
        super().__init__()
        self.content = nn.Parameter(torch.empty(groups, count, dim))
        self.change = nn.Parameter(torch.empty(groups, count, 4))

    def reset_parameters(self) -> None:
        """Standard normal vectors; boxes stay as proposed."""
        nn.init.normal_(self.content)
        nn.init.zeros_(self.change)

    def forward(self, proposed: Sequence[Tensor]) -> Queries:
        """The boxes B Q 4 proposed by each group → its queries, group after group."""
        groups, count = len(proposed), proposed[0].shape[1]
        boxes = torch.stack(list(proposed), dim=1).detach()  # B G Q 4
        content = self.content[:groups, :count].flatten(0, 1).expand(boxes.shape[0], -1, -1)
        return Queries(content, moved(boxes, self.change[:groups, :count]).flatten(1, 2))


def first_boxes(levels: Sequence[Level]) -> tuple[Tensor, Tensor]:
    """The boxes that cells propose before they are looked at, B N 4 as shares of the image, and which cells propose
    nothing, bool B N: padding, and those at the border."""
    boxes, hidden = [], []
    for number, level in enumerate(levels):
        rows, columns = level.y.shape[1], level.x.shape[1]
        x, y = level.x.unsqueeze(1).expand(-1, rows, -1), level.y.unsqueeze(2).expand(-1, -1, columns)
        side = torch.full_like(x, SIDE * 2**number)
        boxes.append(torch.stack((x, y, side, side), dim=-1).flatten(1, 2))
        if level.padding is None:
            hidden.append(torch.zeros_like(boxes[-1][..., 0], dtype=torch.bool))
        else:
            hidden.append(level.padding.flatten(1))
    around = torch.cat(boxes, dim=1)
    inside = ((around > BORDER) & (around < 1 - BORDER)).all(dim=-1)
    return around, torch.cat(hidden, dim=1) | ~inside


def moved(boxes: Tensor, change: Tensor) -> Tensor:
    """Boxes (..., 4) changed in units of their own sides; in float32."""
    centre, size = boxes.float().chunk(2, dim=-1)
    move, stretch = change.float().chunk(2, dim=-1)
    return torch.cat((move * size + centre, stretch.clamp(max=STRETCH).exp() * size), dim=-1)


def apart(x: Tensor, groups: int) -> Tensor:
    """B G·Q … → B·G Q …, images in order."""
    return x.unflatten(1, (groups, -1)).flatten(0, 1)


def coordinate_sines(boxes: Tensor, dim: int) -> Tensor:
    """Sines and cosines by turns of ``dim`` / 2 wavelengths of each coordinate, y before x: (..., 4) → (..., 4·dim)."""
    steps = torch.arange(0, dim, 2, device=boxes.device, dtype=torch.float32) / dim
    x, y, width, height = boxes.float().unbind(-1)
    angle = 2 * math.pi * torch.stack((y, x, width, height), dim=-1).unsqueeze(-1) / TEMPERATURE**steps
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-3)
