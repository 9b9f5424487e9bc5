"""Local attribution maps (Gu & Dong 2021, "Interpreting super-resolution networks with local attribution maps"): which
pixels a region of a restored picture was made of."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.explain import Heat
from vitrail.explain.restored import WITH_GRADIENTS, makes_pictures, pixel_heat, require_small
from vitrail.ops.attribution import blurred, diffusion_index, reach_of
from vitrail.ops.grid import Pair
from vitrail.tasks import Task
from vitrail.trainable import EncoderModule, image_encoder

Spans = Sequence[Pair]
"""Rows and columns: the first, and the first one behind the last."""


@config
class Options:
    """Of which region, and along which path.

    Args:
        patch: the patch in the middle of the region, counted row by row; default: the one in the middle of the picture.
        size: side of the region, in pixels of the picture that is given.
        steps: of the path from the blurred picture to the picture.
        blur: standard deviation of the Gaussian at its start, in pixels.
    """

    patch: Annotated[int, Field(ge=0)] | None = None
    size: Annotated[int, Field(gt=0, le=256)] = 16
    steps: Annotated[int, Field(gt=0, le=500)] = 32
    blur: Annotated[float, Field(gt=0, le=100)] = 9.0


def suits(task: EncoderModule) -> bool:
    """Does it make pictures?"""
    return makes_pictures(task)


def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[Heat]:
    """One map: absolute attribution of the detail in the region, summed over channels. Its title holds the diffusion
    index, 100 · (1 − Gini), over all of the picture's pixels.

    Pixels further away than the model sees have none, so they are not computed.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: a task that makes no pictures, no such patch, or a picture too large for a model that sees all of it.
    """
    if not isinstance(task, Task) or not makes_pictures(task):
        raise UserError(f"{task.name} makes no pictures; lam explains restored ones, gradcam what has names")
    region = _region(image_encoder(task).grid(images), images, options)
    seen = [_around(span, side, task) for span, side in zip(region, images.shape[-2:], strict=True)]
    require_small(_part(images, seen), WITH_GRADIENTS)
    found = attribution(task, path_to(images.float(), seen, options.steps, options.blur), _within(region, seen))
    all_pixels = images.new_zeros(images.shape[-2:], dtype=torch.float32)
    _part(all_pixels, seen).copy_(found.abs().sum(dim=0))
    place = f"rows {region[0][0]} to {region[0][1] - 1}, columns {region[1][0]} to {region[1][1] - 1}"
    return [pixel_heat(f"pixels used for {place}; diffusion index {diffusion_index(all_pixels):.1f}", all_pixels)]


def path_to(images: Tensor, part: Spans, steps: int, blur: float) -> list[Tensor]:
    """A part of images (1, C, H, W) that are less and less blurred, from a deviation of ``blur`` pixels to none."""
    far = reach_of(blur)
    around = [
        (max(0, first - far), min(side, last + far))
        for (first, last), side in zip(part, images.shape[-2:], strict=True)
    ]
    outer, inner = _part(images, around), _within(part, around)
    return [_part(blurred(outer, blur * (1 - step / steps)), inner) for step in range(steps + 1)]


@torch.enable_grad()
def attribution(task: Task, path: Sequence[Tensor], region: Spans) -> Tensor:
    """Integrated gradients of the detail in a region along a path of pictures (1, C, H, W): (C, H, W).

    Its sum over all values is the detail at the end of the path less that at its start, up to the number of steps
    (their equations 3 to 6).

    Args:
        region: rows and columns, in pixels of the pictures.
    """
    total = torch.zeros_like(path[0][0])
    for before, after in pairwise(path):
        seen = ((before + after) / 2).requires_grad_()
        (gradient,) = torch.autograd.grad(detail(task, seen, region), seen)
        total += (gradient * (after - before))[0].detach()
    return total


def detail(task: Task, images: Tensor, region: Spans) -> Tensor:
    """Σ of the absolute differences of neighbouring pixels in the restored region (their equation 2)."""
    restored = task.one_view()(images)
    scale = restored.shape[-1] // images.shape[-1]
    rows, columns = (slice(scale * first, scale * last) for first, last in region)
    part = restored[..., rows, columns]
    return part.diff(dim=-2).abs().sum() + part.diff(dim=-1).abs().sum()


def _region(grid: Pair, images: Tensor, options: Options) -> Spans:
    """The rows and columns of the region, (first, behind the last)."""
    patch = grid[0] // 2 * grid[1] + grid[1] // 2 if options.patch is None else options.patch
    if patch >= grid[0] * grid[1]:
        raise UserError(f"there is no patch {patch}; this picture has patches 0 to {grid[0] * grid[1] - 1}")
    centres = [
        int((place + 0.5) * side / cells)
        for place, side, cells in zip(divmod(patch, grid[1]), images.shape[-2:], grid, strict=True)
    ]
    spans = []
    for centre, side in zip(centres, images.shape[-2:], strict=True):
        first = min(max(centre - options.size // 2, 0), max(side - options.size, 0))
        spans.append((first, min(first + options.size, side)))
    return spans


def _part(pictures: Tensor, spans: Spans) -> Tensor:
    """Rows and columns of pictures (..., H, W)."""
    rows, columns = (slice(*span) for span in spans)
    return pictures[..., rows, columns]


def _within(spans: Spans, around: Spans) -> Spans:
    """The same spans, counted from where others begin."""
    return [(span[0] - other[0], span[1] - other[0]) for span, other in zip(spans, around, strict=True)]


def _around(span: Pair, side: int, task: Task) -> Pair:
    """The pixels along an axis that a span depends on, beginning where windows do."""
    reach: int | None = getattr(task.config, "reach", None)
    if reach is None:
        return 0, side
    patch = task.vit.config.patch_embed.stride or task.vit.config.patch_size
    align = task.graph_step * patch[0]
    first = max(0, span[0] - reach) // align * align
    return first, min(side, -(-(span[1] + reach) // align) * align)
