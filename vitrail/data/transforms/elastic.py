"""An image and the parts of its target, bent smoothly: points of a coarse grid move at random, and all between follow
(Simard et al. 2003, "Best practices for convolutional neural networks applied to visual document analysis"; in the form
of Ronneberger et al. 2015, U-Net, section 3.1). For what bends in life too, such as handwriting and tissue.

Shapes: (H, W) the image.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import torch
from pydantic import Field
from torch import Tensor
from torch.nn import functional as F

from vitrail.config import config
from vitrail.data.transforms.rotate import Fill
from vitrail.ops import boxes
from vitrail.ops.grid import Pair

if TYPE_CHECKING:
    from torchvision.tv_tensors import TVTensor

ROUND = 16  # points of an ellipse that stands for an object
STEPS = 4  # towards the point that a displacement brings to a place


@config
class ElasticConfig:
    """Args:
    std: standard deviation of how far a point of the grid moves along each axis, as a share of the grid's spacing.
    spacing: of the grid, as a share of the image's shorter side.
    """

    std: Annotated[float, Field(gt=0, le=0.25)] = 0.12
    spacing: Annotated[float, Field(gt=0, le=1)] = 0.2


def displacement(size: Pair, config: ElasticConfig) -> Tensor:
    """Where each pixel is taken from, less where it is: x and y in pixels, (2, H, W); drawn from torch's state."""
    spacing = config.spacing * min(size)
    points = [math.ceil(side / spacing) + 1 for side in size]
    coarse = config.std * spacing * torch.randn(1, 2, *points)
    return F.interpolate(coarse, size, mode="bicubic", align_corners=True)[0]


def bent(parts: Mapping[str, TVTensor], field: Tensor, fills: Mapping[str, Fill] | None = None) -> dict[str, TVTensor]:
    """The parts, each pixel taken from where ``field`` (2, H, W) says.

    Pixels are interpolated, masks and maps take the nearest. Boxes become those around the bent masks; where there are
    none, around the bent ellipse within the box.

    Args:
        fills: by part, what stands where the image has not been; else 0.
    """
    from torchvision.tv_tensors import BoundingBoxes, Image, wrap

    grid, fills = _grid(field), fills or {}
    made: dict[str, TVTensor] = {}
    for name, part in parts.items():
        plain = part.as_subclass(Tensor)
        if isinstance(part, BoundingBoxes):
            made[name] = wrap(around_bent_ellipses(plain, field), like=part)
        else:
            fill = torch.tensor(fills.get(name, 0), dtype=torch.float32).reshape(-1, 1, 1)
            made[name] = wrap(
                _sampled(plain, grid, fill, "bilinear" if isinstance(part, Image) else "nearest"), like=part
            )
    if "boxes" in made and "masks" in made:
        around = boxes.of_masks(made["masks"].as_subclass(Tensor).bool())
        made["boxes"] = wrap(around, like=made["boxes"])
    return made


def around_bent_ellipses(boxes_xyxy: Tensor, field: Tensor) -> Tensor:
    """Boxes (N, 4) in pixels around the bent ellipses within boxes."""
    angles = 2 * math.pi * torch.arange(ROUND) / ROUND
    centre, size = boxes.xyxy_to_cxcywh(boxes_xyxy)[:, None].split(2, dim=-1)
    before = centre + size / 2 * torch.stack((angles.cos(), angles.sin()), dim=-1).to(boxes_xyxy)
    grid, after = field.to(boxes_xyxy)[None], before
    for _ in range(STEPS):  # after + field(after) = before
        place = 2 * after / after.new_tensor([field.shape[2], field.shape[1]]) - 1
        moved = F.grid_sample(grid, place[None], padding_mode="border", align_corners=False)
        after = before - moved[0].permute(1, 2, 0)
    if not len(boxes_xyxy):
        return boxes_xyxy
    return torch.cat((after.amin(dim=1), after.amax(dim=1)), dim=-1)


def _grid(field: Tensor) -> Tensor:
    """As ``grid_sample`` takes it, (1, H, W, 2)."""
    height, width = field.shape[1:]
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    place = torch.stack((x, y)) + field
    return (2 * place / torch.tensor([width, height])[:, None, None] - 1).permute(1, 2, 0)[None]


def _sampled(part: Tensor, grid: Tensor, fill: Tensor, mode: str) -> Tensor:
    """Pixels (..., H, W) at the places of the grid, in their dtype; beyond the image ``fill``, (C or 1, 1, 1)."""
    pixels = part.float().reshape(1, -1, *part.shape[-2:])
    if not pixels.shape[1]:
        return part
    found = F.grid_sample(pixels - fill, grid, mode=mode, padding_mode="zeros", align_corners=False) + fill
    return (found.round() if not part.is_floating_point() else found).reshape(part.shape).to(part.dtype)
