"""An image and the parts of its target, turned around the centre of the image."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

import torch
from torch import Tensor

from vitrail.ops import boxes

if TYPE_CHECKING:
    from torchvision.tv_tensors import TVTensor

Fill: TypeAlias = "float | Sequence[float]"


def rotated(parts: Mapping[str, TVTensor], degrees: float, fills: Mapping[str, Fill]) -> dict[str, TVTensor]:
    """The parts turned counter-clockwise, on a canvas of the same size.

    Pixels are interpolated, masks and maps take the nearest. Boxes become those around the turned masks; where there
    are none, around the ellipse within the box, since objects seldom reach into its corners (Kalra et al. 2021).

    Args:
        fills: by part, what stands where the image has not been; else 0.
    """
    from torchvision.transforms.v2 import InterpolationMode
    from torchvision.transforms.v2 import functional as moves
    from torchvision.tv_tensors import BoundingBoxes, Image, wrap

    turned: dict[str, TVTensor] = {}
    for name, part in parts.items():
        if isinstance(part, BoundingBoxes):
            turned[name] = wrap(around_ellipses(part.as_subclass(Tensor), degrees, part.canvas_size), like=part)
        else:
            way = InterpolationMode.BILINEAR if isinstance(part, Image) else InterpolationMode.NEAREST
            turned[name] = moves.rotate(part, degrees, interpolation=way, fill=fills.get(name, 0))
    if "boxes" in turned and "masks" in turned:
        masks = turned["masks"].as_subclass(Tensor).bool()
        turned["boxes"] = wrap(boxes.of_masks(masks), like=turned["boxes"])
    return turned


def quarter_turned(parts: Mapping[str, TVTensor], turns: int) -> dict[str, TVTensor]:
    """The parts turned counter-clockwise by so many quarters, exactly: pixels move, and none is interpolated."""
    from torchvision.tv_tensors import BoundingBoxes, wrap

    turned: dict[str, TVTensor] = {}
    for name, part in parts.items():
        plain = part.as_subclass(Tensor)
        if isinstance(part, BoundingBoxes):
            canvas = part.canvas_size
            for _ in range(turns % 4):
                plain, canvas = _boxes_turned(plain, canvas[1]), (canvas[1], canvas[0])
            turned[name] = BoundingBoxes(
                plain, format=part.format, canvas_size=canvas, clamping_mode=part.clamping_mode
            )
        else:
            turned[name] = wrap(plain.rot90(turns, (-2, -1)), like=part)
    return turned


def _boxes_turned(boxes_xyxy: Tensor, width: int) -> Tensor:
    """Boxes (N, 4) of a canvas so wide, after a quarter turn counter-clockwise: (x, y) is at (y, width − x)."""
    left, top, right, bottom = boxes_xyxy.unbind(dim=-1)
    return torch.stack((top, width - right, bottom, width - left), dim=-1)


def around_ellipses(boxes_xyxy: Tensor, degrees: float, canvas: tuple[int, int]) -> Tensor:
    """Boxes (N, 4) in pixels around the turned ellipses within boxes; ``canvas`` is the image's (height, width)."""
    cosine, sine = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = boxes_xyxy.new_tensor([canvas[1] / 2, canvas[0] / 2])
    centre, size = boxes.xyxy_to_cxcywh(boxes_xyxy).split(2, dim=-1)
    x, y = (centre - middle).unbind(-1)
    moved = torch.stack((cosine * x + sine * y, cosine * y - sine * x), dim=-1) + middle
    width, height = size.unbind(-1)
    extent = torch.stack(
        (torch.hypot(cosine * width, sine * height), torch.hypot(sine * width, cosine * height)), dim=-1
    )
    return boxes.cxcywh_to_xyxy(torch.cat((moved, extent), dim=-1))
