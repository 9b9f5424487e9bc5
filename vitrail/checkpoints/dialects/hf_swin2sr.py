"""Hugging Face Swin2SR (Conde et al. 2022): Swin2SRForImageSuperResolution.

After the convolution of a group its library has a linear layer; both are one convolution here, and the linear layer is
written as the identity.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import restorers
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.parts import CONTINUOUS, COSINE
from vitrail.checkpoints.rules import Rule, layer, same, shaped, stacked, under
from vitrail.checkpoints.shapes import Shapes, depth_of
from vitrail.config import from_dict
from vitrail.errors import UserError
from vitrail.files import Json
from vitrail.tasks.super_resolution import Config

LIBRARY = "huggingface"
TASKS = ("super_resolution",)
FILE = hf.FILE
IGNORED = ("*.relative_coords_table", "*.relative_position_index", "*.attention_mask", "swin2sr.mean")
PARTS = (COSINE, CONTINUOUS)
STAGES = "swin2sr.encoder.stages."
SCALE = f"{STAGES}0.layers.0.attention.self.logit_scale"
EPS = 1e-5  # of the norm after the first convolution, whatever the config says
KINDS = {"pixelshuffle": "shuffle", "pixelshuffledirect": "direct", "nearest+conv": "nearest", "": "direct"}


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the first convolution and the scale of the scores."""
    return {"swin2sr.first_convolution.weight", SCALE} <= set(names)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """From ``config.json``, and from shapes where it says nothing.

    Raises:
        UserError: a model that Vitrail does not compute.
    """
    config = hf.Config(beside.config)
    dim, channels = shapes["swin2sr.first_convolution.weight"][:2]
    num_groups = depth_of(shapes, STAGES)
    groups = [depth_of(shapes, f"{STAGES}{group}.layers.") for group in range(num_groups)]
    window = config.get("window_size", 8)
    image_size = config.get("image_size", 64)
    side = image_size if isinstance(image_size, int) else min(image_size)
    scale, upsampler = _enlargement(shapes, config, channels)
    for wrong, what in (
        (
            config.get("upsampler", "pixelshuffle") not in (*KINDS, None),
            f"the upsampler {config.values.get('upsampler')}",
        ),
        (config.get("img_range", 1.0) != 1, "an img_range other than 1"),
        (scale == 1 and channels == 3, "colours and no enlargement, where its library adds the mean twice"),
        (config.get("patch_size", 1) not in (1, [1, 1]), "patches of several pixels"),
        (config.get("use_absolute_embeddings", False), "absolute positions"),
        (config.get("layer_norm_eps", EPS) != EPS, f"a layer_norm_eps other than {EPS}"),
        (side <= window, "an image_size that is not above window_size, where windows are not moved"),
        (f"{STAGES}0.conv.0.weight" in shapes, "three convolutions after a group and one after all"),
        (len(set(groups)) > 1 or groups[0] % 2, "groups of different or odd numbers of blocks"),
    ):
        if wrong:
            raise UserError(
                f"this Swin2SR has {what}, which Vitrail does not compute; give one of the published models"
            )
    made = _config(
        channels=channels,
        dim=dim,
        depth=sum(groups),
        heads=shapes[SCALE][0],
        mlp_dim=shapes[f"{STAGES}0.layers.0.intermediate.dense.weight"][0],
        mlp=config.activation(),
        qkv_bias=f"{STAGES}0.layers.0.attention.self.query.bias" in shapes,
        window=window,
        group=groups[0],
        scale=scale,
        upsampler=upsampler,
    )
    about_window = [each for each in config.assumed if each.startswith("window_size")]
    return Description(TASKS[0], made, restorers.preprocess(made), tuple(about_window), frozenset())


def rules(description: Description) -> list[Rule]:
    config = _of(description)
    found = [
        *layer("vit.embed.projection", "swin2sr.first_convolution"),
        *_entry(config.model.dim),
        *layer("vit.pre_norm", "swin2sr.embeddings.patch_embeddings.layernorm"),
        *layer("vit.norm", "swin2sr.layernorm"),
        *layer("head.body", "swin2sr.conv_after_body"),
        *_head(config),
    ]
    for number, end in enumerate(config.ends):
        found += _group(f"groups.{end}.conv", f"{STAGES}{number}.")
    for block in range(config.model.depth):
        group, place = divmod(block, config.group or 1)
        found += under(f"vit.blocks.{block}.", f"{STAGES}{group}.layers.{place}.", BLOCK)
    return found


BLOCK = [
    stacked("attention.qkv.weight", *(f"attention.self.{part}.weight" for part in ("query", "key", "value"))),
    stacked("attention.qv_bias", "attention.self.query.bias", "attention.self.value.bias"),
    same("attention.q_norm.logarithm", "attention.self.logit_scale"),
    *layer("attention.relative.fc1", "attention.self.continuous_position_bias_mlp.0"),
    same("attention.relative.fc2.weight", "attention.self.continuous_position_bias_mlp.2.weight"),
    *layer("attention.out", "attention.output.dense"),
    *layer("norm1", "layernorm_before"),
    *layer("norm2", "layernorm_after"),
    *layer("mlp.fc1", "intermediate.dense"),
    *layer("mlp.fc2", "output.dense"),
]


def lacks(description: Description) -> str | None:
    """What none of its models has: it is compared with the one of the same sizes."""
    config = _of(description)
    vit, window, kind = config.model, config.window, config.upsampler.kind
    if window is None or not config.group or config.group % 2 or vit.depth % config.group:
        return "attention outside of windows, or groups of this number of blocks"
    if (kind != "direct" and config.scale == 1) or (kind == "nearest" and config.scale != 4):
        return f"upsampler of kind {kind} for scale {config.scale}"
    if config.scale == 1 and vit.channels == 3:
        return "model of colours without enlargement"
    theirs = _config(
        channels=vit.channels,
        dim=vit.dim,
        depth=vit.depth,
        heads=vit.heads,
        mlp_dim=vit.mlp_dim,
        mlp=vit.block.mlp,
        qkv_bias=vit.block.qkv_bias,
        window=window.size,
        group=config.group,
        scale=config.scale,
        upsampler={"kind": kind, "width": 64},
    )
    return restorers.differs(config, theirs)


def sidecars(description: Description) -> dict[str, Json]:
    """``config.json`` and ``preprocessor_config.json``."""
    config = _of(description)
    vit, num_groups = config.model, len(config.ends)
    assert config.window is not None
    upsampler = {"direct": "pixelshuffledirect" if config.scale > 1 else "", "shuffle": "pixelshuffle"}
    return {
        "config.json": {
            "architectures": ["Swin2SRForImageSuperResolution"],
            "model_type": "swin2sr",
            "image_size": 8 * config.window.size,
            "patch_size": 1,
            "num_channels": vit.channels,
            "num_channels_out": vit.channels,
            "embed_dim": vit.dim,
            "depths": [config.group] * num_groups,
            "num_heads": [vit.heads] * num_groups,
            "window_size": config.window.size,
            "mlp_ratio": vit.mlp_dim / vit.dim,
            "qkv_bias": vit.block.qkv_bias,
            "hidden_act": {"gelu_tanh": "gelu_pytorch_tanh"}.get(vit.block.mlp, vit.block.mlp),
            "layer_norm_eps": EPS,
            "upscale": config.scale,
            "img_range": 1.0,
            "resi_connection": "1conv",
            "upsampler": upsampler.get(config.upsampler.kind, "nearest+conv"),
            "dtype": "float32",
        },
        "preprocessor_config.json": {
            "image_processor_type": "Swin2SRImageProcessor",
            "do_rescale": True,
            "rescale_factor": 1 / 255,
            "do_pad": True,
            "size_divisor": config.window.size,
        },
    }


def _enlargement(shapes: Shapes, config: hf.Config, channels: int) -> tuple[int, dict[str, Any]]:
    """The scale and the upsampler."""
    if "upsample.conv.weight" in shapes:
        return math.isqrt(shapes["upsample.conv.weight"][0] // channels), {"kind": "direct"}
    if "upsample.conv_before_upsample.weight" not in shapes:
        return 1, {"kind": "direct"}
    width = shapes["upsample.conv_before_upsample.weight"][0]
    kind = "nearest" if "upsample.conv_up1.weight" in shapes else "shuffle"
    return config.get("upscale", 2 if kind == "shuffle" else 4), {"kind": kind, "width": width}


def _entry(dim: int) -> list[Rule]:
    """The linear layer before the norm, which they have as a convolution."""
    theirs = "swin2sr.embeddings.patch_embeddings.projection"
    return [shaped("entry.weight", f"{theirs}.weight", dim, dim, 1, 1), same("entry.bias", f"{theirs}.bias")]


def _group(ours: str, theirs: str) -> list[Rule]:
    """The convolution after a group, with the linear layer that follows it."""
    weight, bias = layer(ours, f"{theirs}conv")
    linear = f"{theirs}patch_embed.projection"

    def joined_weight(parts: Sequence[Tensor]) -> Tensor:
        return torch.einsum("oi,ijhw->ojhw", parts[1][..., 0, 0], parts[0])

    def joined_bias(parts: Sequence[Tensor]) -> Tensor:
        return parts[1][..., 0, 0] @ parts[0] + parts[2]

    def identity(value: Tensor, rows: int) -> Tensor:
        return torch.eye(len(value), dtype=value.dtype)[:rows, :, None, None]

    return [
        replace(
            weight,
            theirs=(*weight.theirs, f"{linear}.weight"),
            read=joined_weight,
            write=lambda value: (value, identity(value, len(value))),
            direct=False,
        ),
        replace(
            bias,
            theirs=(*bias.theirs, f"{linear}.weight", f"{linear}.bias"),
            read=joined_bias,
            write=lambda value: (value, identity(value, 0), torch.zeros_like(value)),
            direct=False,
        ),
    ]


def _head(config: Config) -> list[Rule]:
    """Of what comes after the body."""
    if config.upsampler.kind == "direct":
        return layer("head.pixels", "final_convolution" if config.scale == 1 else "upsample.conv")
    found = [
        *layer("head.before", "upsample.conv_before_upsample"),
        *layer("head.pixels", "upsample.final_convolution"),
        *layer("head.last", "upsample.conv_hr"),
    ]
    for step in range(4):
        if config.upsampler.kind == "nearest":
            theirs = f"conv_up{step + 1}"
        else:
            theirs = "upsample.convolution" if config.scale == 3 else f"upsample.convolution_{step}"
        found += layer(f"head.steps.{step}", f"upsample.{theirs}")
    return found


def _config(*, channels: int, mlp: str, qkv_bias: bool, window: int, scale: int, **sizes: Any) -> Config:
    """The model of these sizes."""
    block = {"order": "branch", "mlp": mlp, "norm_eps": EPS, "cosine": True, "qkv_bias": qkv_bias}
    vit = restorers.encoder(channels, window, EPS, sizes) | {"pre_norm": True, "positions": "relative"}
    settings: dict[str, Any] = {
        "model": vit | {"continuous": True, "block": block | ({"key_bias": False} if qkv_bias else {})},
        **restorers.settings(channels, window, scale, sizes),
        "entry": True,
    }
    return from_dict(Config, settings)


def _of(description: Description) -> Config:
    assert isinstance(description.config, Config)
    return description.config
