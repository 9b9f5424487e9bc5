"""ViTs whose blocks are PyTorch's own ``nn.TransformerEncoder``, as many tutorials have them.

The blocks have PyTorch's names wherever they stand in the model; everything around them is called as its author liked,
and is told by shapes (:mod:`vitrail.checkpoints.naming`). What tensors do not tell (heads, norms before or after a
branch, activation, pooling) is read from ``config.json`` (``num_heads``, ``norm_first``, ``activation``, ``pool``),
else taken to be usual and said.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import parts, pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.naming import drafted, places
from vitrail.checkpoints.rules import Rule, layer, repeated, same
from vitrail.checkpoints.shapes import Shapes

LIBRARY = "torch"
TASKS = pooled.TASKS
FILE = "model.safetensors"
IGNORED = ()
PARTS = (parts.RELU, parts.RELU_HEAD)
BLOCK = [
    same("attention.qkv.weight", "self_attn.in_proj_weight"),
    same("attention.qkv.bias", "self_attn.in_proj_bias"),
    *layer("attention.out", "self_attn.out_proj"),
    *layer("norm1", "norm1"),
    *layer("norm2", "norm2"),
    *layer("mlp.fc1", "linear1"),
    *layer("mlp.fc2", "linear2"),
]
_FIRST = re.compile(r"(?:^|\.)0\.self_attn\.in_proj_weight$")
_OTHERS = re.compile(r"multihead_attn\.|query_embed|(?:^|\.)decoder\.")


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the blocks; a model with a decoder is none."""
    blocks = [_FIRST.sub("", name) for name in names if _FIRST.search(name)]
    return (
        len(blocks) == 1
        and any(name.endswith("0.linear1.weight") for name in names)
        and not any(_OTHERS.search(name) for name in names)
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """By shapes, then the config.

    Raises:
        UserError: tensors that no ViT here has.
    """
    return drafted.describe(shapes, beside)


def rules(description: Description) -> list[Rule]:
    """As the file has them, or for a model that is written with names that tutorials use."""
    model = pooled.read(description)
    if description.layout is not None:
        return places.rules(drafted.places(description.layout), model.vit)
    return [
        same("vit.class_token", "cls_token"),
        same("vit.positions.embedding", "pos_embedding"),
        *layer("vit.embed.projection", "proj"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "transformer_encoder.layers.{i}.", BLOCK),
        *layer("vit.norm", "norm"),
        *layer("head.hidden", "head.0"),
        *layer("head.output", "head.2" if model.head.hidden else "head"),
    ]


def lacks(description: Description) -> str | None:
    """What no ``nn.TransformerEncoder`` computes, and what a file would not tell when it is read again."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    return tensors_only.first(
        (
            *tensors_only.beyond_plain_patches(vit),
            (f"{vit.positions} positions", vit.positions != "learned"),
            ("class token without position", vit.class_token and not vit.class_position),
            ("distillation token", vit.distillation_token),
            ("register tokens", bool(vit.registers)),
            ("norm before the blocks", vit.pre_norm),
            ("attention without bias", not (block.qkv_bias and block.out_bias and block.key_bias)),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            ("QK-norm", block.qk_norm),
            ("LayerScale", block.layer_scale is not None),
            (f"{block.mlp} activation", block.mlp not in ("gelu", "relu")),
            (f"{model.pool} pooling", model.pool not in ("cls", "mean")),
            ("mean pooling with a class token", vit.class_token and model.pool != "cls"),
            ("head with a tanh layer", model.head.hidden is not None and model.head.activation == "tanh"),
            ("head with a ReLU layer", model.head.hidden is not None and model.head.activation == "relu"),
            *tensors_only.beyond_a_linear_head(model),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """What the tensors do not tell."""
    model = pooled.read(description)
    vit = model.vit
    config = {
        "image_size": tensors_only.plain(vit.image_size),
        "patch_size": tensors_only.plain(vit.patch_size),
        "channels": vit.channels,
        "num_heads": vit.heads,
        "norm_first": vit.block.order == "pre",
        "activation": vit.block.mlp,
        "norm_eps": vit.block.norm_eps,
        "pool": model.pool,
    }
    return tensors_only.sidecars(model, config)
