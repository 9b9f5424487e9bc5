"""The first releases of vit-pytorch, whose code many repositories copied: ``PreNorm`` and ``to_qkv`` around a
``patch_to_embedding`` (https://github.com/lucidrains/vit-pytorch, 0.2 to 0.6).

Patches are flattened as (height, width, channel), queries, keys and values have no bias, and scores are divided by the
root of a token's width, not of a head's. Blocks are wrapped in ``Residual`` or not. The heads are in no tensor: they
are read from ``config.json``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import parts, pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.naming import drafted, places
from vitrail.checkpoints.rules import Rule, layer, patches_last, repeated, same
from vitrail.checkpoints.shapes import Shapes

LIBRARY = "vit_pytorch"
TASKS = pooled.TASKS
FILE = "model.safetensors"
IGNORED = ()
PARTS = (parts.TOKEN_SCALE,)
EPS = 1e-5
BLOCK = [
    *layer("norm1", "0.fn.norm"),
    same("attention.qkv.weight", "0.fn.fn.to_qkv.weight"),
    *layer("attention.out", "0.fn.fn.to_out.0"),
    *layer("norm2", "1.fn.norm"),
    *layer("mlp.fc1", "1.fn.fn.net.0"),
    *layer("mlp.fc2", "1.fn.fn.net.3"),
]
_QUERIES = re.compile(r"(?:^|\.)layers\.0\.0\.(?:fn\.)+to_qkv\.weight$")


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the projection of patches and the queries of the first block."""
    return any(name.endswith("patch_to_embedding.weight") for name in names) and any(
        _QUERIES.search(name) for name in names
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """By shapes, then the config.

    Raises:
        UserError: tensors that no ViT here has.
    """
    return drafted.describe(shapes, beside)


def rules(description: Description) -> list[Rule]:
    """As the file has them, or for a model that is written as version 0.2 did."""
    model = pooled.read(description)
    vit = model.vit
    if description.layout is not None:
        return places.rules(drafted.places(description.layout), vit)
    return [
        same("vit.class_token", "cls_token"),
        same("vit.positions.embedding", "pos_embedding"),
        patches_last("vit.embed.projection.weight", "patch_to_embedding.weight", vit.channels, vit.patch_size),
        same("vit.embed.projection.bias", "patch_to_embedding.bias"),
        *repeated(vit.depth, "vit.blocks.{i}.", "transformer.layers.{i}.", BLOCK),
        *layer("vit.norm", "mlp_head.0"),
        *layer("head.hidden", "mlp_head.1"),
        *layer("head.output", "mlp_head.4" if model.head.hidden else "mlp_head.1"),
    ]


def lacks(description: Description) -> str | None:
    """What that code does not compute."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    return tensors_only.first(
        (
            *tensors_only.beyond_plain_patches(vit),
            ("register tokens", bool(vit.registers)),
            ("distillation token", vit.distillation_token),
            ("class token without position", vit.class_token and not vit.class_position),
            ("post-norm blocks", block.order != "pre"),
            ("QK-norm", block.qk_norm),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            (f"{vit.positions} positions", vit.positions != "learned"),
            ("model without class token", not vit.class_token),
            ("attention scaled by the width of a head", block.scale != "token"),
            ("bias in queries, keys and values", block.qkv_bias),
            ("attention output without bias", not block.out_bias),
            ("norm before the blocks", vit.pre_norm),
            ("model without a final norm", not vit.final_norm),
            (f"LayerNorm with eps {block.norm_eps}", block.norm_eps != EPS),
            (f"{block.mlp} activation", block.mlp != "gelu"),
            ("LayerScale", block.layer_scale is not None),
            (f"{model.pool} pooling", model.pool != "cls"),
            ("head with a tanh layer", model.head.hidden is not None and model.head.activation == "tanh"),
            *tensors_only.beyond_a_linear_head(model),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """The arguments of its ViT."""
    model = pooled.read(description)
    vit = model.vit
    config = {
        "image_size": tensors_only.plain(vit.image_size),
        "patch_size": tensors_only.plain(vit.patch_size),
        "num_classes": model.outputs,
        "dim": vit.dim,
        "depth": vit.depth,
        "heads": vit.heads,
        "mlp_dim": model.head.hidden or vit.mlp_dim,
        "channels": vit.channels,
    }
    return tensors_only.sidecars(model, config)
