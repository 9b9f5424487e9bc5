"""The published models by name; importing this needs no torch."""

from __future__ import annotations

import dataclasses
import re
from typing import TYPE_CHECKING, Any

from vitrail.errors import UserError, did_you_mean

if TYPE_CHECKING:
    from vitrail.vit_config import ViTConfig

# name: dim, depth, heads, mlp_dim (Dosovitskiy et al. 2021; Touvron et al. 2021; Zhai et al. 2022; Alabdulmohsin et
# al. 2023), then further fields of ViTConfig
SIZES: dict[str, tuple[int, int, int, int, dict[str, Any]]] = {
    "Ti": (192, 12, 3, 768, {}),
    "S": (384, 12, 6, 1536, {}),
    "B": (768, 12, 12, 3072, {}),
    "L": (1024, 24, 16, 4096, {}),
    "H": (1280, 32, 16, 5120, {}),
    "So400m": (1152, 27, 16, 4304, {"class_token": False}),
    "g": (1408, 40, 16, 6144, {}),
    "G": (1664, 48, 16, 8192, {}),
}
# Names as published (Steiner et al. 2021). "R+Ti/16" has the root alone, which shrinks 4 times, and 8×8 patches of its
# map: a token covers 32 pixels in spite of the name.
HYBRIDS: dict[str, tuple[str, tuple[int, ...], int]] = {
    "R+Ti/16": ("Ti", (), 32),
    "R26+S/32": ("S", (2, 2, 2, 2), 32),
    "R50+B/16": ("B", (3, 4, 9), 16),
    "R50+L/32": ("L", (3, 4, 6, 3), 32),
}
_PATCHES = {
    "Ti": (16,),
    "S": (16, 32),
    "B": (8, 16, 32),
    "L": (14, 16, 32),
    "H": (14, 16),
    "So400m": (14, 16),
}


def presets() -> list[str]:
    """The published models by name, e.g. ``S/16``; :func:`preset` takes any other patch size too."""
    plain = [f"{size}/{patch}" for size in SIZES for patch in _PATCHES.get(size, (14,))]
    return plain + list(HYBRIDS)


def preset(name: str, **overrides: object) -> ViTConfig:
    """The config of a published model, e.g. ``preset("S/16", image_size=384)``.

    Args:
        name: size/patch (``Ti/16`` … ``G/14``, any patch size) or a hybrid (``R50+B/16``).
        overrides: fields of :class:`ViTConfig` to change.

    Raises:
        UserError: an unknown name or field.
    """
    from vitrail.vit_config import ViTConfig

    known = [f.name for f in dataclasses.fields(ViTConfig)]
    if unknown := [key for key in overrides if key not in known]:
        raise UserError(f"unknown model setting {unknown[0]!r}; {did_you_mean(unknown[0], known)}")
    return ViTConfig(**(_fields(name) | overrides))


def resized(model: ViTConfig, name: str) -> ViTConfig:
    """The model with the size, patches and stem of the published one of that name, and all else its own.

    Raises:
        UserError: an unknown name.
    """
    return dataclasses.replace(model, **({"embed": model.patch_embed} | _fields(name)))


def _fields(name: str) -> dict[str, Any]:
    """What the name says, as fields of ViTConfig."""
    if name in HYBRIDS:
        from vitrail.nn.resnet_stem import ResNetStemConfig

        size, layers, patch = HYBRIDS[name]
        embed: dict[str, Any] = {"embed": ResNetStemConfig(layers=layers)}
    elif (match := re.fullmatch(r"(\w+)/(\d+)", name)) and match[1] in SIZES:
        size, patch, embed = match[1], int(match[2]), {}
    else:
        raise UserError(f"unknown model {name!r}; {did_you_mean(name, presets())}")
    dim, depth, heads, mlp_dim, extra = SIZES[size]
    return {"dim": dim, "depth": depth, "heads": heads, "mlp_dim": mlp_dim, "patch_size": patch} | embed | extra
