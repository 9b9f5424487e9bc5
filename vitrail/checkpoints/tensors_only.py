"""What libraries have in common whose files are tensors alone: our JSON next to them, and what none of them has.

``preprocessor_config.json`` and ``classes.json`` are Vitrail's own habit there; ``config.json`` holds the arguments of
the library's constructor, so that ``Model(**json.load(...))`` builds what the file fits.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.pooled import PooledModel
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import from_huggingface, to_huggingface
from vitrail.ops.grid import Pair
from vitrail.vit_config import ViTConfig

Wanted = Iterable[tuple[str, bool]]
"""(what, whether a model has it)"""


def preprocess(beside: Beside) -> PreprocessConfig | None:
    """From ``preprocessor_config.json``, where there is one; crops begin where torchvision's do."""
    if not beside.preprocessor:
        return None
    return dataclasses.replace(from_huggingface(beside.preprocessor), crop_rounding="nearest")


def sidecars(model: PooledModel, config: dict[str, Any] | None = None) -> dict[str, Any]:
    """``config.json`` where a constructor has arguments, and preprocessing and class names where they are known."""
    found: dict[str, Any] = {"config.json": config} if config else {}
    if model.preprocess is not None:
        found["preprocessor_config.json"] = to_huggingface(model.preprocess)
    if model.classes and model.labels:
        found["classes.json"] = list(model.classes)
    return found


def plain(size: Pair) -> int | list[int]:
    """One number for a square."""
    return size[0] if size[0] == size[1] else list(size)


def first(wanted: Wanted) -> str | None:
    """The first thing that a model has of what a library lacks."""
    return next((name for name, there in wanted if there), None)


def lacks(model: PooledModel) -> str | None:
    """What none of these libraries has."""
    vit, block, head = model.vit, model.vit.block, model.head
    return first(
        (
            (f"{vit.positions} positions", vit.positions not in ("learned", "sincos_2d")),
            ("convolutional stem", vit.embed.kind == "conv"),
            ("overlapping patches", vit.patch_embed.stride not in (None, vit.patch_size)),
            ("padding of images", vit.patch_embed.pad),
            ("image that its patches do not cover", vit.patch_embed.drop),
            ("register tokens", bool(vit.registers)),
            ("distillation token", vit.distillation_token),
            ("class token without position", vit.class_token and not vit.class_position),
            ("post-norm blocks", block.order != "pre"),
            ("QK-norm", block.qk_norm),
            ("bias of queries and values alone", block.qkv_bias and not block.key_bias),
            ("SwiGLU", block.mlp == "swiglu"),
            (f"{model.pool} pooling", model.pool in ("max", "cls_mean", "cls4_mean", "cls_distillation")),
            ("head with a GELU layer", head.hidden is not None and head.activation == "gelu"),
        )
    )


def beyond_plain_patches(vit: ViTConfig) -> Wanted:
    """What an embedding has that is more, or less, than a layer with a bias on patches side by side."""
    return (
        (f"{vit.embed.kind} stem", vit.embed.kind != "patch"),
        ("overlapping patches", vit.patch_embed.stride not in (None, vit.patch_size)),
        ("padding of images", vit.patch_embed.pad),
        ("image that its patches do not cover", vit.patch_embed.drop),
        ("patches without bias", not vit.patch_embed.bias),
        ("norm of patches", vit.patch_embed.norm),
    )


def beyond_a_linear_head(model: PooledModel) -> Wanted:
    """What a head has that is more, or less, than a linear layer with a bias to classes."""
    return (
        ("head with a norm", model.head.norm),
        ("head without bias", bool(model.outputs) and not model.head.bias),
        ("projection of its features", bool(model.outputs) and not model.labels),
    )
