"""Feature maps for a decoder from several layers of a plain ViT, joined by convolutions (Chen et al. 2024, LW-DETR,
section 3.1; the block is YOLOv8's C2f).

Shapes: B images, D width of the encoder, (h, w) grid, C channels.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.feature_pyramid import ChannelNorm, Scale, cleared, rescaled
from vitrail.nn.init import Initialised

Activation = Literal["silu", "relu", "gelu"]
_ACTIVATIONS: dict[Activation, Callable[[Tensor], Tensor]] = {"silu": F.silu, "relu": F.relu, "gelu": F.gelu}
WIDE = 512  # channels from which an enlarging convolution is preceded by one that halves them


@config
class JoinConfig:
    """Args:
    expansion: share of the width that the inner convolutions have.
    blocks: of two convolutions each.
    norm: after each convolution: ``layer`` over the channels (RF-DETR), or ``batch`` with fixed statistics, those of
        the weights (LW-DETR): batches of a few images tell none.
    """

    expansion: Annotated[float, Field(gt=0, le=4)] = 0.5
    blocks: Annotated[int, Field(gt=0, le=32)] = 3
    activation: Literal["silu", "relu", "gelu"] = "silu"
    norm: Literal["layer", "batch"] = "layer"
    norm_eps: Annotated[float, Field(gt=0)] = 1e-5


class FixedBatchNorm(Initialised):
    """BatchNorm by statistics that training leaves as they are; scale and shift are learned."""

    mean: Tensor
    variance: Tensor

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.empty(channels))
        self.bias = nn.Parameter(torch.empty(channels))
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("variance", torch.ones(channels))

    def reset_parameters(self) -> None:
        """No change of what comes in."""
        nn.init.ones_(self.weight)
        nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        """B C h w → B C h w."""
        scale = self.weight * (self.variance + self.eps).rsqrt()
        shift = self.bias - self.mean * scale
        return x * scale.to(x.dtype)[:, None, None] + shift.to(x.dtype)[:, None, None]


class NormedConv(nn.Module):
    """A convolution without bias, a norm and an activation; cells of padding are zero before it."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        config: JoinConfig,
        activation: Activation | None = None,
        stride: int = 1,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, bias=False)
        kind = FixedBatchNorm if config.norm == "batch" else ChannelNorm
        self.norm = kind(outputs, config.norm_eps)
        self.activation: Activation = activation or config.activation

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """B C h w and the padding of it, bool (B, h, w) → the next map."""
        return _ACTIVATIONS[self.activation](self.norm(self.conv(cleared(x, padding))))


class Rescale(nn.Module):
    """A map at another scale; the same at scale 1."""

    def __init__(self, dim: int, scale: Scale, config: JoinConfig) -> None:
        super().__init__()
        self.scale, self.width = scale, dim
        self.conv: NormedConv | None = None
        self.enlarge: nn.ConvTranspose2d | None = None
        if scale == "1/2":
            self.conv = NormedConv(dim, dim, 3, config, "relu", stride=2)
        elif scale == "2":
            if dim > WIDE:
                self.conv = NormedConv(dim, dim // 2, 1, config, "relu")
            self.width = dim // 4 if dim > WIDE else dim // 2
            self.enlarge = nn.ConvTranspose2d(dim // 2 if dim > WIDE else dim, self.width, 2, 2)

    def forward(self, x: Tensor, padding: Tensor | None) -> Tensor:
        """B D h w → B width h' w'."""
        if self.conv is not None:
            x = self.conv(x, padding)
        return x if self.enlarge is None else self.enlarge(x)


class Joined(nn.Module):
    """One map of several at one scale: B D h w each → B C h' w'."""

    def __init__(self, dim: int, count: int, outputs: int, scale: Scale, config: JoinConfig) -> None:
        super().__init__()
        inner = int(outputs * config.expansion)
        self.scale, self.inner = scale, inner
        self.rescale = nn.ModuleList(Rescale(dim, scale, config) for _ in range(count))
        width = self.rescale[0].width
        assert isinstance(width, int)
        self.first = NormedConv(width * count, 2 * inner, 1, config)
        self.blocks = nn.ModuleList(
            nn.ModuleList(NormedConv(inner, inner, 3, config) for _ in range(2)) for _ in range(config.blocks)
        )
        self.last = NormedConv((2 + config.blocks) * inner, outputs, 1, config)
        self.norm = ChannelNorm(outputs, 1e-6)

    def forward(self, maps: Sequence[Tensor], padding: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """The map, and its padding."""
        hidden = padding if padding is None else rescaled(padding, self.scale)
        y = torch.cat([rescale(x, padding) for rescale, x in zip(self.rescale, maps, strict=True)], dim=1)
        parts = list(self.first(y, hidden).split(self.inner, dim=1))
        for block in self.blocks:
            x = parts[-1]
            for conv in block.children():
                x = conv(x, hidden)
            parts.append(x)
        return self.norm(self.last(torch.cat(parts, dim=1), hidden)), hidden


class JoinedMaps(nn.Module):
    """The maps of ``count`` layers → one map of width ``outputs`` for each scale."""

    def __init__(self, dim: int, count: int, outputs: int, scales: Sequence[Scale], config: JoinConfig) -> None:
        super().__init__()
        self.levels = nn.ModuleList(Joined(dim, count, outputs, scale, config) for scale in scales)

    def forward(self, maps: Sequence[Tensor], padding: Tensor | None = None) -> list[tuple[Tensor, Tensor | None]]:
        """B D h w each → for each scale the map and its own padding.

        Args:
            padding: bool (B, h, w), true where a cell is not the image's.
        """
        return [level(maps, padding) for level in self.levels]
