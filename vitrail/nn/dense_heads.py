"""From feature maps to a class for every pixel. Shapes: B images, D width, (h, w) grid, K classes."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.conv_stem import num_groups
from vitrail.nn.feature_pyramid import cleared
from vitrail.ops.grid import Pair
from vitrail.ops.interpolation import interpolation_matrix
from vitrail.ops.tables import kept

CACHE_LINE = 16  # numbers; threads that sum the gradients of fewer weights side by side wait for each other


def resized(x: Tensor, size: Pair) -> Tensor:
    """B C h w at another size, bilinearly."""
    return F.interpolate(x, size, mode="bilinear", align_corners=False) if x.shape[-2:] != size else x


def enlarged(logits: Tensor, size: Pair) -> Tensor:
    """Logits B K h w → B K H W, bilinearly as :func:`resized`, contiguous as losses read them.

    Two matrix products: with so few channels several times as fast as interpolation, whose gradient is the slow part.
    """
    rows, columns = (
        kept(interpolation_matrix, logits.device, old, new, "bilinear").to(logits.dtype)
        for old, new in zip(logits.shape[-2:], size, strict=True)
    )
    return rows @ logits.contiguous() @ columns.T


class LinearHead(nn.Module):
    """One linear layer per token (Strudel et al. 2021, Segmenter, "linear")."""

    def __init__(self, dim: int, num_classes: int) -> None:
        super().__init__()
        self.output = nn.Conv2d(dim, num_classes, 1)

    def forward(self, maps: list[Tensor], padding: Tensor | None, size: Pair) -> Tensor:
        """The last map B D h w → logits B K H W."""
        return enlarged(self.output(maps[-1]), size)


class MultiLevelHead(nn.Module):
    """Maps of several layers, each through its own convolutions, added from the deepest up, then concatenated
    (Zheng et al. 2021, SETR-MLA)."""

    def __init__(self, dim: int, num_levels: int, hidden: int, num_classes: int) -> None:
        super().__init__()
        self.reduce = nn.ModuleList(nn.Conv2d(dim, hidden, 1) for _ in range(num_levels))
        self.levels = nn.ModuleList(ConvBlock(hidden, hidden) for _ in range(num_levels))
        self.output = nn.Conv2d(hidden * num_levels, num_classes, 1)

    def forward(self, maps: list[Tensor], padding: Tensor | None, size: Pair) -> Tensor:
        """Maps B D h w, the deepest last → logits B K H W.

        Args:
            padding: bool (B, h, w), cells that convolutions do not read.
        """
        total, found = None, []
        for x, reduce, level in reversed(list(zip(maps, self.reduce, self.levels, strict=True))):
            total = reduce(x) if total is None else total + reduce(x)
            found.append(level(cleared(total, padding)))
        return resized(self.output(torch.cat(found, dim=1)), size)


class ConvBlock(nn.Sequential):
    """3×3 convolution, LayerNorm of each cell's channels in groups, ReLU: a cell depends on its neighbours alone."""

    def __init__(self, inputs: int, outputs: int, stride: int = 1) -> None:
        super().__init__(nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False), CellNorm(outputs), nn.ReLU())


class CellNorm(nn.GroupNorm):
    """GroupNorm within each cell of B C h w, so that neither the batch nor padding changes a result."""

    def __init__(self, channels: int) -> None:
        super().__init__(num_groups(channels), channels)

    def forward(self, x: Tensor) -> Tensor:
        x = x.movedim(1, -1)
        if self.num_groups == 1 and self.num_channels >= CACHE_LINE:
            return F.layer_norm(x, x.shape[-1:], self.weight, self.bias, self.eps).movedim(-1, 1)
        cells = x.unflatten(-1, (self.num_groups, -1))
        normed = F.layer_norm(cells, cells.shape[-1:], eps=self.eps).flatten(-2)  # group_norm of cells is slower
        # Weight and bias, as a convolution of each channel by itself.
        return F.conv2d(normed.movedim(-1, 1), self.weight[:, None, None, None], self.bias, groups=self.num_channels)


class CascadedUpsampler(nn.Module):
    """Doubles the resolution step by step, concatenated with the maps of a convolutional stem (Chen et al. 2021,
    TransUNet, section 3.2).

    Args:
        skips: channels of the stem's maps, the coarsest first; steps beyond them have none.
        widths: channels after each step, one step a halving in the encoder.
    """

    def __init__(self, dim: int, skips: list[int], widths: list[int], num_classes: int) -> None:
        super().__init__()
        self.entry = ConvBlock(dim, widths[0])
        self.steps = nn.ModuleList()
        inputs = widths[0]
        for step, width in enumerate(widths):
            beside = skips[step] if step < len(skips) else 0
            self.steps.append(nn.Sequential(ConvBlock(inputs + beside, width), ConvBlock(width, width)))
            inputs = width
        self.output = nn.Conv2d(inputs, num_classes, 3, padding=1)

    def forward(self, x: Tensor, skips: list[Tensor]) -> Tensor:
        """B D h w and maps of 2 h × 2 w, 4 h × 4 w … → logits B K H W."""
        x = self.entry(x)
        for number, step in enumerate(self.steps):
            x = resized(x, (2 * x.shape[-2], 2 * x.shape[-1]))
            if x.requires_grad:  # of torch.cat it is a part with gaps, which interpolation reads six times as slowly
                x.register_hook(lambda gradient: gradient.contiguous(memory_format=torch.channels_last))
            x = step(torch.cat([x, *skips[number : number + 1]], dim=1))
        return self.output(x)
