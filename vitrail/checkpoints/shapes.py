"""What names and shapes of tensors determine of an architecture."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from vitrail.config import from_dict
from vitrail.errors import UserError
from vitrail.nn.patch_embed import PatchEmbedConfig
from vitrail.vit import ViTConfig

LATER = re.compile(r"\.(?:[4-9]|\d\d+)\.")
"""In the names of later blocks, which tell no more of a dialect than those of the first."""
Shapes = Mapping[str, tuple[int, ...]]
"""By canonical name."""


def vit_config(settings: dict[str, Any], *, where: str = "config.json") -> ViTConfig:
    """The config of an encoder of another library.

    Where patches do not cover the image, all libraries' convolutions leave out its last pixels.

    Args:
        where: the file that the settings came from, repeated in errors.

    Raises:
        UserError: a setting of the wrong type or range.
    """
    vit = from_dict(ViTConfig, settings, where=where)
    covered = all(size % patch == 0 for size, patch in zip(vit.image_size, vit.patch_size, strict=True))
    if covered or not isinstance(vit.embed, PatchEmbedConfig) or vit.embed.stride is not None:
        return vit
    return replace(vit, embed=replace(vit.embed, drop=True))


def depth_of(names: Iterable[str], prefix: str, said: object = None) -> int:
    """The number of blocks ``{prefix}{i}.…`` among names of tensors.

    Args:
        said: by the config, if it says one.

    Raises:
        UserError: the config says another number.
    """
    found = {name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)}
    depth = sum(part.isdigit() for part in found)
    if said is not None and said != depth:
        raise UserError(
            f"it has {depth} blocks and its config says {said}: it is a part of a model, or the config is another's; "
            "fetch both again"
        )
    return depth


_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1152: 16, 1408: 16, 1664: 16}


def usual_heads(dim: int) -> int:
    """The number of heads of the published model of this width, else heads of 64 channels."""
    return _HEADS.get(dim, max(dim // 64, 1))


def geometry(
    kernel: tuple[int, ...], num_positions: int, image_size: int | Sequence[int] | None = None
) -> dict[str, Any]:
    """``image_size``, ``patch_size``, ``channels`` and ``dim`` of a :class:`ViTConfig`.

    Args:
        kernel: shape of the patch projection, (D, C, P, P).
        num_positions: learned positions of patches, without those of other tokens.
        image_size: of a config, one number or (height, width); default: the square that has the positions.

    Raises:
        UserError: the number of positions is no square and no size is given, or the size has another number.
    """
    dim, channels, *patch = kernel
    if image_size is None:
        side = math.isqrt(num_positions)
        image_size = (side * patch[0], side * patch[1])
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if (height // patch[0]) * (width // patch[1]) != num_positions:
        raise UserError(
            f"{num_positions} positions do not cover {height} × {width} pixels in patches of {patch[0]} × {patch[1]}; "
            "set image_size in config.json"
        )
    return {"image_size": (height, width), "patch_size": tuple(patch), "channels": channels, "dim": dim}
