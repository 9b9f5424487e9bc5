"""Heads that enlarge features before they become pixels, and convolutions in place of one.

Shapes: B images, C channels, D width, W width of the larger pictures, (h, w) token grid, s how many times larger.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.init import Initialised

SLOPE = 0.2  # of the LeakyReLUs, but for the first of a head, which has torch's 0.01


@config
class UpsamplerConfig:
    """How features become pixels (Liang et al. 2021, SwinIR, section 3.1; https://github.com/JingyunLiang/SwinIR).

    Args:
        kind: ``direct``: channels of one convolution become pixels; ``shuffle``: features are enlarged step by step in
            this way, before a last convolution; ``nearest``: by repeating pixels and a convolution.
        width: channels of the enlarged features; not of ``direct``.
    """

    kind: Literal["direct", "shuffle", "nearest"] = "direct"
    width: Annotated[int, Field(gt=0, le=1024)] = 64

    def reach(self, convolutions: int) -> int:
        """Tokens beyond one that its head sees at most, where as many convolutions come first."""
        return (1 if self.kind == "direct" else 3) + (1 if convolutions == 1 else 2)


def spatial(dim: int, count: int) -> nn.Conv2d | nn.Sequential:
    """A 3×3 convolution, or three (3×3, 1×1, 3×3) with a quarter of the channels between them: B D h w → B D h w."""
    if count == 1:
        return nn.Conv2d(dim, dim, 3, padding=1)
    return nn.Sequential(
        nn.Conv2d(dim, dim // 4, 3, padding=1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(dim // 4, dim // 4, 1),
        nn.LeakyReLU(SLOPE),
        nn.Conv2d(dim // 4, dim, 3, padding=1),
    )


def steps(factor: int) -> list[int]:
    """The factors, each 2, 3 or another prime, by which a picture is enlarged in turn."""
    found, prime = [], 2
    while factor > 1:
        while factor % prime == 0:
            found.append(prime)
            factor //= prime
        prime += 1
    return found


class _Enlarging(Initialised):
    """What both heads begin and end with."""

    def __init__(self, dim: int, channels: int, config: UpsamplerConfig, convolutions: int) -> None:
        super().__init__()
        self.body = spatial(dim, convolutions)
        self.before = nn.Conv2d(dim, config.width, 3, padding=1)
        self.pixels = nn.Conv2d(config.width, channels, 3, padding=1)

    def finish_reset(self) -> None:
        """The last convolution is zero."""
        nn.init.zeros_(self.pixels.weight)

    def _wide(self, features: Tensor, shallow: Tensor) -> Tensor:
        """B W h w."""
        return F.leaky_relu(self.before(self.body(features) + shallow))


class ShuffleHead(_Enlarging):
    """B D h w and what entered the blocks, B D h w → B C s·h s·w: in each step, channels of a 3×3 convolution become
    pixels (Shi et al. 2016, ESPCN)."""

    def __init__(self, dim: int, channels: int, factor: int, config: UpsamplerConfig, convolutions: int) -> None:
        super().__init__(dim, channels, config, convolutions)
        self.factors = steps(factor)
        width = config.width
        self.steps = nn.ModuleList(nn.Conv2d(width, width * each**2, 3, padding=1) for each in self.factors)

    def forward(self, features: Tensor, shallow: Tensor) -> Tensor:
        x = self._wide(features, shallow)
        for factor, step in zip(self.factors, self.steps, strict=True):
            x = F.pixel_shuffle(step(x), factor)
        return self.pixels(x)


class NearestHead(_Enlarging):
    """B D h w and what entered the blocks, B D h w → B C s·h s·w: in each step, pixels are repeated before a 3×3
    convolution, which leaves no chequered pattern (Odena et al. 2016, "Deconvolution and checkerboard artifacts")."""

    def __init__(self, dim: int, channels: int, factor: int, config: UpsamplerConfig, convolutions: int) -> None:
        super().__init__(dim, channels, config, convolutions)
        self.factors = steps(factor)
        width = config.width
        self.steps = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in self.factors)
        self.last = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, features: Tensor, shallow: Tensor) -> Tensor:
        x = self._wide(features, shallow)
        for factor, step in zip(self.factors, self.steps, strict=True):
            x = F.leaky_relu(step(F.interpolate(x, scale_factor=factor, mode="nearest")), SLOPE)
        return self.pixels(F.leaky_relu(self.last(x), SLOPE))
