"""RADIO (Ranzinger et al. 2024) in Hugging Face's and NVIDIA's files: RadioModel.

Several class tokens and registers without positions before the patches, no norm at the end; the image's features are
some of the class tokens side by side. Its normalisation of pixels is part of the preprocessing here.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace

import torch
from torch import Tensor

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import parts, pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import hf_dinov2
from vitrail.checkpoints.rules import Rule, layer, repeated, same, shaped, stacked_layer
from vitrail.checkpoints.shapes import Shapes, depth_of, vit_config
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.files import Json
from vitrail.nn.pooling import PoolKind
from vitrail.tasks import features

LIBRARY = "huggingface"
TASKS = ("features",)
FILE = hf.FILE
PARTS = (parts.PREFIX_POOL,)
PREFIX = "radio_model."
BLOCKS, PATCHES = f"{PREFIX}model.blocks.", f"{PREFIX}model.patch_generator."
IGNORED = (f"{PREFIX}summary_idxs", f"{PREFIX}input_conditioner.*", f"{PATCHES}video_embedder.*")
TOKENS = f"{PATCHES}cls_token.token"
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
RESAMPLING = "bilinear_crop"
BLOCK = [
    *layer("norm1", "norm1"),
    *layer("attention.qkv", "attn.qkv"),
    *layer("attention.out", "attn.proj"),
    same("branch1.scale.gamma", "layer_scale1.lambda1"),
    *layer("norm2", "norm2"),
    same("branch2.scale.gamma", "layer_scale2.lambda1"),
]


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By its generator of patches."""
    return f"{PATCHES}embedder.weight" in names and f"{BLOCKS}0.attn.qkv.weight" in names


def describe(shapes: Shapes, beside: Beside) -> Description:
    """The summary: the class tokens that the config names, else the first two.

    Raises:
        UserError: patches or positions that are no squares.
    """
    config, values = hf.Config(beside.config), beside.config
    dim, length = shapes[f"{PATCHES}embedder.weight"]
    count, num_tokens = shapes[f"{PATCHES}pos_embed"][1], shapes[TOKENS][0]
    channels = config.get("num_channels", 3)
    patch, side = math.isqrt(length // channels), math.isqrt(count)
    if patch * patch * channels != length or side * side != count:
        raise UserError(f"{length} numbers a patch and {count} positions are no squares; use transformers")
    swiglu = f"{BLOCKS}0.mlp.gate_proj.weight" in shapes
    summary = tuple(config.get("summary_idxs", [0, 1]) or [0, 1])
    vit = vit_config(
        {
            "image_size": (side * patch, side * patch),
            "patch_size": (patch, patch),
            "channels": channels,
            "dim": dim,
            "depth": depth_of(shapes, BLOCKS),
            "heads": config.heads(dim),
            "mlp_dim": shapes[f"{BLOCKS}0.mlp.{'down_proj' if swiglu else 'fc2'}.weight"][1],
            "embed": {"kind": "patch", "bias": False},
            "class_position": False,
            "registers": num_tokens - 1,
            "final_norm": False,
            "resampling": RESAMPLING,
            "block": {
                "mlp": "swiglu" if swiglu else config.activation(),
                "norm_eps": config.get("layer_norm_eps", 1e-6),
                "qkv_bias": f"{BLOCKS}0.attn.qkv.bias" in shapes,
                "layer_scale": values.get("layerscale_value", 1.0)
                if f"{BLOCKS}0.layer_scale1.lambda1" in shapes
                else None,
            },
        }
    )
    size = config.get("image_size", 224)
    preprocess = PreprocessConfig(
        size=(size, size),
        channels=channels,
        interpolation="bicubic",
        mean=tuple(values.get("norm_mean", MEAN)),
        std=tuple(values.get("norm_std", STD)),
    )
    pool: PoolKind = "prefix"
    config.assumed.append(f"preprocessing: resized to {size} × {size}, bicubic; the file has mean and deviation alone")
    task = features.Config(model=vit, pool=pool, pool_tokens=summary)
    return Description("features", task, preprocess, tuple(config.assumed), frozenset())


def rules(description: Description) -> list[Rule]:
    """A model that is written gets the mean and deviation of the preprocessing, and the numbers of the tokens."""
    model = pooled.read(description)
    vit, count = model.vit, 1 + model.vit.registers
    if vit.block.mlp == "swiglu":
        mlp = [*stacked_layer("mlp.fc1", "mlp.gate_proj", "mlp.up_proj"), *layer("mlp.fc2", "mlp.down_proj")]
    else:
        mlp = [*layer("mlp.fc1", "mlp.fc1"), *layer("mlp.fc2", "mlp.fc2")]
    kernel = shaped("vit.embed.projection.weight", f"{PATCHES}embedder.weight", vit.dim, -1)
    if model.layout is None:
        mean, std = _normalisation(model.preprocess, vit.channels)
        kernel = hf.with_spare(kernel, f"{PREFIX}summary_idxs", lambda value: torch.tensor(_summary(model)))
        kernel = hf.with_spare(kernel, f"{PREFIX}input_conditioner.norm_mean", lambda value: _column(mean))
        kernel = hf.with_spare(kernel, f"{PREFIX}input_conditioner.norm_std", lambda value: _column(std))
    return [
        _tokens("vit.class_token", 0, 1, vit.dim),
        _tokens("vit.registers", 1, count, vit.dim),
        same("vit.positions.embedding", f"{PATCHES}pos_embed"),
        kernel,
        *repeated(vit.depth, "vit.blocks.{i}.", BLOCKS + "{i}.", [*BLOCK, *mlp]),
    ]


def lacks(description: Description) -> str | None:
    """What a RadioModel cannot be."""
    model = pooled.read(description)
    vit = model.vit
    own = {
        "patches without bias": False,
        "patches with bias": vit.patch_embed.bias,
        "class token without position": False,
        "class token with a position": vit.class_position,
        "register tokens": False,
        "model without a final norm": False,
        "final norm": vit.final_norm,
        "LayerScale": False,
        "SwiGLU": False,
        "MLP of this width": hf_dinov2.mlp_ratio(model) is None,
        "heads of a width other than dim / heads": vit.head_dim * vit.heads != vit.dim,
        "oblong images or patches": hf.oblong(model),
        f"resampling of positions by {vit.resampling}": vit.resampling != RESAMPLING,
        f"{model.pool} pooling": model.pool not in ("prefix", "cls"),
        "head": bool(model.outputs),
    }
    return hf.lacks(replace(model, labels=True), own)


def sidecars(description: Description) -> dict[str, Json]:
    """``config.json``; the preprocessing is part of it."""
    model = pooled.read(description)
    vit = model.vit
    mean, std = _normalisation(model.preprocess, vit.channels)
    size = model.preprocess.size[0] if model.preprocess else vit.image_size[0]
    last = max(_summary(model))
    found = hf.config_json(
        model,
        "radio",
        "RadioModel",
        mlp_ratio=float(hf_dinov2.mlp_ratio(model) or 0),
        use_swiglu_ffn=vit.block.mlp == "swiglu",
        layerscale_value=1.0 if vit.block.layer_scale is None else vit.block.layer_scale,
        max_img_size=vit.image_size[0],
        num_cls_tokens=last + 1,
        num_registers=vit.registers - last,
        summary_idxs=list(_summary(model)),
        norm_mean=mean,
        norm_std=std,
    )
    return {"config.json": {**found, "image_size": size}}


def _summary(model: pooled.PooledModel) -> tuple[int, ...]:
    return model.pool_tokens or (0,)


def _tokens(ours: str, first: int, last: int, dim: int) -> Rule:
    """Some of their tokens; our state dict has them in this order."""
    return Rule(ours, (TOKENS,), lambda found: found[0][first:last], lambda value: (value.reshape(last - first, dim),))


def _normalisation(preprocess: PreprocessConfig | None, channels: int) -> tuple[list[float], list[float]]:
    mean, std = (preprocess.mean, preprocess.std) if preprocess else (MEAN, STD)
    full = [list(values) * (channels if len(values) == 1 else 1) for values in (mean, std)]
    return full[0], full[1]


def _column(values: list[float]) -> Tensor:
    return torch.tensor(values).reshape(-1, 1, 1)
