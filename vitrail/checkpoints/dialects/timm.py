"""timm's VisionTransformer (https://github.com/huggingface/pytorch-image-models)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints.model import Beside, Model, Shapes, depth_of, geometry, numbered, usual_heads
from vitrail.checkpoints.rules import Rule, layer, repeated, same
from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import from_timm
from vitrail.vit import ViTConfig

LIBRARY = "timm"
FILE = "model.safetensors"
IGNORED = ()
BLOCK = [
    *layer("norm1", "norm1"),
    *layer("attention.qkv", "attn.qkv"),
    *layer("attention.out", "attn.proj"),
    *layer("norm2", "norm2"),
    *layer("mlp.fc1", "mlp.fc1"),
    *layer("mlp.fc2", "mlp.fc2"),
]


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the names of the first block."""
    return "blocks.0.attn.qkv.weight" in names and "patch_embed.proj.weight" in names


def describe(shapes: Shapes, beside: Beside) -> Model:
    kernel, positions = shapes["patch_embed.proj.weight"], shapes["pos_embed"]
    dim = kernel[0]
    vit = {
        **geometry(kernel, positions[1] - 1),
        "depth": depth_of(shapes, "blocks."),
        "heads": usual_heads(dim),
        "mlp_dim": shapes["blocks.0.mlp.fc1.weight"][0],
    }
    outputs = shapes.get("head.weight", (0,))[0]
    return Model(
        vit=from_dict(ViTConfig, vit, where="config.json"),
        pool="cls",
        outputs=outputs,
        classes=beside.classes,
        preprocess=None,
    )


def rules(model: Model) -> list[Rule]:
    return [
        same("vit.class_token", "cls_token"),
        same("vit.positions.embedding", "pos_embed"),
        *layer("vit.embed.projection", "patch_embed.proj"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "blocks.{i}.", BLOCK),
        *layer("vit.norm", "norm"),
        *layer("head.output", "head"),
    ]


def lacks(model: Model) -> str | None:
    raise NotImplementedError


def sidecars(model: Model) -> dict[str, Any]:
    raise NotImplementedError
