"""SwinIR (Liang et al. 2021): the light models of super-resolution, and those that remove noise.

Names are those of the authors' files (``params`` or ``params_ema`` in a ``.pth``), which hold no settings: all of them
follow from shapes. Others of its models end in more convolutions and are not computed here.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, same, under
from vitrail.checkpoints.shapes import Shapes, depth_of
from vitrail.config import from_dict
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.files import Json
from vitrail.ops.relative import square_of
from vitrail.tasks.super_resolution import Config, exact_tiles

LIBRARY = "swinir"
TASKS = ("super_resolution",)
FILE = "model.safetensors"
IGNORED = ("*.attn.relative_position_index", "*.attn_mask", "mean")
FIRST = "layers.0.residual_group.blocks.0."
MEAN = (0.4488, 0.4371, 0.4040)  # of the colours of DIV2K; grey pictures are taken as they are
EPS = 1e-5
SIZE = 48  # pixels of the parts that it is trained on
JPEG_WINDOW = 7  # of the models whose pixels go up to 255


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the convolution before the blocks, and a table of relative positions in a group of them."""
    return {"conv_first.weight", f"{FIRST}attn.relative_position_bias_table"} <= set(names)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Raises UserError: another of its models than those above."""
    for name, what in (
        ("conv_before_upsample.0.weight", "enlarges by more convolutions"),
        ("conv_after_body.0.weight", "has three convolutions after each group of blocks"),
        ("absolute_pos_embed", "has absolute positions"),
    ):
        if name in shapes:
            raise UserError(f"this SwinIR {what}, which Vitrail does not compute; give a light model, or one for noise")
    dim, channels = shapes["conv_first.weight"][:2]
    num_groups = depth_of(shapes, "layers.")
    groups = [depth_of(shapes, f"layers.{group}.residual_group.blocks.") for group in range(num_groups)]
    table = shapes[f"{FIRST}attn.relative_position_bias_table"]
    window = square_of(table[0], class_token=False)
    if len(set(groups)) > 1 or groups[0] % 2 or not window or window == JPEG_WINDOW:
        raise UserError(
            "this SwinIR has groups of different or odd numbers of blocks, or windows of 7, which Vitrail does not "
            "compute; give a light model, or one for noise"
        )
    scale = math.isqrt(shapes["upsample.0.weight"][0] // channels) if "upsample.0.weight" in shapes else 1
    settings: dict[str, Any] = {
        "model": {
            "image_size": window,  # the grid of the table
            "channels": channels,
            "patch_size": 3,
            "embed": {"kind": "patch", "stride": 1, "centre": True},
            "dim": dim,
            "depth": sum(groups),
            "heads": table[1],
            "mlp_dim": shapes[f"{FIRST}mlp.fc1.weight"][0],
            "positions": "relative",
            "class_token": False,
            "pre_norm": "patch_embed.norm.weight" in shapes,
            "block": {"norm_eps": EPS},
        },
        "scale": scale,
        "window": {"size": window, "num_global": 0, "shifted": True},
        "group": groups[0],
        "skip": "bicubic" if scale == 1 else "mean",
        "mean": MEAN if channels == 3 else (0.0,),
    }
    config = from_dict(Config, settings)
    tiles = exact_tiles(config)
    preprocess = PreprocessConfig(
        size=(SIZE, SIZE),
        channels=channels,
        resize="none",
        mean=(0,),
        std=(1,),
        tiles=tiles,
        degrade=DegradeConfig(scale=config.scale),
    )
    return Description("super_resolution", config, preprocess)


def rules(description: Description) -> list[Rule]:
    config = description.config
    assert isinstance(config, Config)
    last = "conv_last" if config.scale == 1 else "upsample.0"
    found = [
        *layer("vit.embed.projection", "conv_first"),
        *layer("vit.pre_norm", "patch_embed.norm"),
        *layer("vit.norm", "norm"),
        *layer("head.body", "conv_after_body"),
        *layer("head.pixels", last),
    ]
    for number, end in enumerate(config.ends):
        found += layer(f"groups.{end}.conv", f"layers.{number}.conv")
    for block in range(config.model.depth):
        group, place = divmod(block, config.group)
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
    """It is only read: its files also hold tables that depend on the size of a picture."""
    return "writer"


def sidecars(description: Description) -> dict[str, Json]:
    return {}
