"""SwinIR (Liang et al. 2021): super-resolution of all sizes, noise, and traces of JPEG.

Names are those of the authors' files (``params`` or ``params_ema`` in a ``.pth``), which hold no settings: all of them
follow from shapes. Their tables of offsets and masks are not read, and written.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints import restorers
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, same, under
from vitrail.checkpoints.shapes import Shapes, depth_of
from vitrail.config import from_dict
from vitrail.errors import UserError
from vitrail.files import Json
from vitrail.ops.relative import offsets, square_of
from vitrail.ops.windows import to_windows
from vitrail.tasks.super_resolution import Config

LIBRARY = "swinir"
TASKS = ("super_resolution",)
FILE = "model.safetensors"
IGNORED = ("*.attn.relative_position_index", "*.attn_mask", "mean")
FIRST = "layers.0.residual_group.blocks.0."
EPS = 1e-5
JPEG_WINDOW, JPEG_RANGE = 7, 255.0  # of the models for JPEG, which nothing else tells apart
HIDDEN = -100.0  # what a mask adds to scores


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the convolution before the blocks, and a table of relative positions in a group of them."""
    return {"conv_first.weight", f"{FIRST}attn.relative_position_bias_table"} <= set(names)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Raises UserError: another of its models than the published ones."""
    if "absolute_pos_embed" in shapes:
        raise UserError("this SwinIR has absolute positions, which Vitrail does not compute; give one without")
    dim, channels = shapes["conv_first.weight"][:2]
    num_groups = depth_of(shapes, "layers.")
    groups = [depth_of(shapes, f"layers.{group}.residual_group.blocks.") for group in range(num_groups)]
    table = shapes[f"{FIRST}attn.relative_position_bias_table"]
    window = square_of(table[0], class_token=False)
    if len(set(groups)) > 1 or groups[0] % 2 or not window:
        raise UserError(
            "this SwinIR has groups of different or odd numbers of blocks, or windows that are no squares, which "
            "Vitrail does not compute; give one of the published models"
        )
    scale, kind = _enlargement(shapes, channels)
    config = _config(
        channels=channels,
        dim=dim,
        depth=sum(groups),
        heads=table[1],
        mlp_dim=shapes[f"{FIRST}mlp.fc1.weight"][0],
        pre_norm="patch_embed.norm.weight" in shapes,
        window=window,
        group=groups[0],
        scale=scale,
        upsampler={"kind": kind, **({} if kind == "direct" else {"width": shapes["conv_last.weight"][1]})},
        convolutions=3 if "conv_after_body.0.weight" in shapes else 1,
    )
    return Description("super_resolution", config, restorers.preprocess(config))


def rules(description: Description) -> list[Rule]:
    config = description.config
    assert isinstance(config, Config)
    found = [
        *layer("vit.embed.projection", "conv_first"),
        *layer("vit.pre_norm", "patch_embed.norm"),
        *layer("vit.norm", "norm"),
        *restorers.convolutions("head.body", "conv_after_body", config.convolutions),
        *_head(config),
    ]
    for number, end in enumerate(config.ends):
        found += restorers.convolutions(f"groups.{end}.conv", f"layers.{number}.conv", config.convolutions)
    for block in range(config.model.depth):
        group, place = divmod(block, config.group or 1)
        found += under(f"vit.blocks.{block}.", f"layers.{group}.residual_group.blocks.{place}.", BLOCK)
    return found


BLOCK = [
    *layer("norm1", "norm1"),
    *layer("attention.qkv", "attn.qkv"),
    *layer("attention.out", "attn.proj"),
    same("attention.relative.table", "attn.relative_position_bias_table"),
    *layer("norm2", "norm2"),
    *layer("mlp.fc1", "mlp.fc1"),
    *layer("mlp.fc2", "mlp.fc2"),
]


def lacks(description: Description) -> str | None:
    """What none of its models has: it is compared with the one of the same sizes."""
    config = description.config
    assert isinstance(config, Config)
    vit, window = config.model, config.window
    if window is None or not config.group or config.group % 2 or vit.depth % config.group:
        return "attention outside of windows, or groups of this number of blocks"
    kind = config.upsampler.kind
    if (kind != "direct" and config.scale == 1) or (kind == "nearest" and config.scale == 3):
        return f"upsampler of kind {kind} for scale {config.scale}"
    theirs = _config(
        channels=vit.channels,
        dim=vit.dim,
        depth=vit.depth,
        heads=vit.heads,
        mlp_dim=vit.mlp_dim,
        pre_norm=vit.pre_norm,
        window=window.size,
        group=config.group,
        scale=config.scale,
        upsampler={"kind": kind, "width": config.upsampler.width},
        convolutions=config.convolutions,
    )
    return restorers.differs(config, theirs)


def sidecars(description: Description) -> dict[str, Json]:
    return {}


def constants(description: Description) -> Mapping[str, Tensor]:
    """The entry of the table for each pair of a window's pixels, and the masks of moved windows, of a picture of some
    48 pixels a side."""
    config = description.config
    assert isinstance(config, Config)
    assert config.window is not None
    side = config.window.size
    index = offsets((side, side), class_token=False).index
    mask = _mask(-(-restorers.SIZE // side) * side, side)
    found: dict[str, Tensor] = {}
    for block in range(config.model.depth):
        group, place = divmod(block, config.group)
        prefix = f"layers.{group}.residual_group.blocks.{place}."
        found[f"{prefix}attn.relative_position_index"] = index.clone()
        if place % 2:
            found[f"{prefix}attn_mask"] = mask.clone()
    return found


def _enlargement(shapes: Shapes, channels: int) -> tuple[int, str]:
    """The scale, and the kind of the upsampler."""
    if "conv_up1.weight" in shapes:
        return 2 ** sum(f"conv_up{step}.weight" in shapes for step in range(1, 5)), "nearest"
    if "conv_before_upsample.0.weight" in shapes:
        return math.prod(math.isqrt(out // into) for out, into in _steps(shapes)), "shuffle"
    if "upsample.0.weight" in shapes:
        return math.isqrt(shapes["upsample.0.weight"][0] // channels), "direct"
    return 1, "direct"


def _steps(shapes: Shapes) -> list[tuple[int, int]]:
    """Channels that the convolutions of ``shuffle`` give and take."""
    found = [shapes.get(f"upsample.{2 * step}.weight") for step in range(4)]
    return [(shape[0], shape[1]) for shape in found if shape is not None]


def _head(config: Config) -> list[Rule]:
    """Of what comes after the body."""
    if config.upsampler.kind == "direct":
        return layer("head.pixels", "conv_last" if config.scale == 1 else "upsample.0")
    found = [*layer("head.before", "conv_before_upsample.0"), *layer("head.pixels", "conv_last")]
    nearest = config.upsampler.kind == "nearest"
    found += layer("head.last", "conv_hr")
    for step in range(4):
        theirs = f"conv_up{step + 1}" if nearest else f"upsample.{2 * step}"
        found += layer(f"head.steps.{step}", theirs)
    return found


def _config(*, channels: int, pre_norm: bool, window: int, scale: int, **sizes: Any) -> Config:
    """The model of these sizes."""
    jpeg = scale == 1 and window == JPEG_WINDOW
    settings: dict[str, Any] = {
        "model": restorers.encoder(channels, window, EPS, sizes) | {"pre_norm": pre_norm, "positions": "relative"},
        **restorers.settings(channels, window, scale, sizes),
        "pixel_range": JPEG_RANGE if jpeg else 1.0,
    }
    return from_dict(Config, settings)


def _mask(size: int, side: int) -> Tensor:
    """Of windows that are moved by half their side over a picture whose opposite edges meet: 0, or −100 for pixels from
    different edges; (windows, side², side²)."""
    along = torch.arange(size)
    part = (along >= size - side).long() + (along >= size - side // 2).long()
    parts = (part[:, None] * 3 + part).reshape(1, 1, size * size, 1)
    label = to_windows(parts, (size, size), (side, side))[:, 0, :, 0]
    return torch.where(label[:, :, None] == label[:, None, :], 0.0, HIDDEN)
