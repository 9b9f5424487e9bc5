"""Interpolation as two matrix products, which any engine can run for any size: an exported graph has no other way."""

from __future__ import annotations

import torch
from torch import Tensor

from vitrail.ops.grid import Pair
from vitrail.ops.positions import Resampling

BORDER = 2  # taps of a cubic kernel beyond the border


def interpolation_matrix(old: int, new: int, rule: Resampling, ratio: float | None = None) -> Tensor:
    """(new, old): row i weighs the old points for the new point i, as ``F.interpolate`` does along one axis.

    The kernels are Keys' cubic convolution (1981) with a = −0.75, or −0.5 where antialiased, and the triangle; an
    antialiased kernel is stretched by old / new where that is over 1 and normalised at the border, the others repeat
    the border's point.

    Args:
        new: also the symbol of a graph that is being exported.
        ratio: old points for each new one; default: old / new.
        rule: any but ``bicubic_offset``, which leaves the native grid alone and scales all others otherwise.
    """
    mode, _, variant = rule.partition("_")
    assert variant != "offset"
    antialias = variant == "antialias"
    points = torch.arange(new, dtype=torch.float32)
    if variant == "corners":
        centres = points.mul((old - 1) / torch.sym_max(new - 1, 1))
    else:
        centres = (points + 0.5) * (old / new if ratio is None else ratio) - 0.5
    if ratio is not None:  # a point may lie far outside, where the border's repeats
        centres = centres.clamp(0, old - 1)
    border = 0 if antialias else BORDER
    taps = torch.arange(-border, old + border, dtype=torch.float32)
    distance = (taps[None] - centres[:, None]).abs()
    if antialias:
        distance = distance.mul(1 / torch.sym_max(old / new, 1.0))
    weights = _triangle(distance) if mode == "bilinear" else _cubic(distance, -0.5 if antialias else -0.75)
    if antialias:
        return weights / weights.sum(dim=1, keepdim=True)
    inner = weights[:, border : border + old]
    first, last = weights[:, :border].sum(dim=1), weights[:, border + old :].sum(dim=1)
    ends = torch.zeros(2, old)
    ends[0, 0] = ends[1, -1] = 1
    return inner + torch.stack((first, last), dim=1) @ ends


def interpolate(table: Tensor, old: Pair, new: Pair, rule: Resampling) -> Tensor:
    """(L, h·w, D) on grid ``old`` → (L, h'·w', D) on grid ``new``: what :func:`vitrail.ops.positions.resample` does."""
    if rule == "bilinear_crop":
        ratio: float = max(old) / torch.sym_max(*new)  # type: ignore[assignment]  # or a symbol of it
        rows, columns = (interpolation_matrix(o, n, "bilinear", ratio) for o, n in zip(old, new, strict=True))
    else:
        rows, columns = (interpolation_matrix(o, n, rule) for o, n in zip(old, new, strict=True))
    by_row = rows @ table.float().unflatten(1, old).flatten(2)
    return (columns @ by_row.unflatten(2, (old[1], -1))).flatten(1, 2).to(table.dtype)


def _triangle(distance: Tensor) -> Tensor:
    return (1 - distance).clamp(min=0)


def _cubic(distance: Tensor, a: float) -> Tensor:
    near = ((a + 2) * distance - (a + 3)) * distance**2 + 1
    far = a * (((distance - 5) * distance + 8) * distance - 4)
    return torch.where(distance <= 1, near, torch.where(distance < 2, far, torch.zeros_like(distance)))
