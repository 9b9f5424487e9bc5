"""vit-pytorch's ViT and SimpleViT (https://github.com/lucidrains/vit-pytorch).

LayerNorm on both sides of the patch projection (Dual PatchNorm), whose flattened patches run (height, width, channel)
where ours run (channel, height, width); no bias in queries, keys and values; heads of any width. Files of versions
without these norms, and with the head's LayerNorm, are read too. A model without a head is a ViT of ``num_classes=0``,
which gives all its tokens.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

import torch

from vitrail.checkpoints import pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, patches_last, repeated, same, shaped
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, vit_config
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.ops.grid import Pair
from vitrail.vit import ViTConfig

LIBRARY = "vit_pytorch"
TASKS = pooled.TASKS
FILE = "model.safetensors"
HEAD = "mlp_head"
IGNORED = ("cls_token",)  # empty where tokens are averaged
EPS = 1e-5
BLOCK = "transformer.layers.0."
_HEAD_DIM, _SIDE = 64, 224
_PRE_NORM = {".0.fn.": ".0.", ".1.norm.": ".1.net.0.", ".1.fn.net.0.": ".1.net.1.", ".1.fn.net.3.": ".1.net.4."}


def canonical(name: str) -> str:
    """With the norms inside attention and MLP, where version 1.2 put them."""
    for old, new in _PRE_NORM.items():
        if name.startswith("transformer.layers.") and old in name:
            return name.replace(old, new)
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the patch embedding and the names of the first block."""
    return {"to_patch_embedding.1.weight", f"{BLOCK}0.to_qkv.weight", f"{BLOCK}1.net.1.weight"} <= set(names)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """A ViT has learned positions, a SimpleViT fixed ones and mean pooling.

    Raises:
        UserError: heads that neither shapes nor config determine, or a mean that includes the class token.
    """
    config, preprocess, assumed = beside.config, tensors_only.preprocess(beside), []
    norm = len(shapes["to_patch_embedding.1.weight"]) == 1
    dim, inputs = shapes[f"to_patch_embedding.{2 if norm else 1}.weight"]
    simple = "pos_embedding" not in shapes
    head = "linear_head" if simple else "mlp_head"
    class_token = 0 not in shapes.get("cls_token", (0,))
    if class_token and config.get("pool") == "mean":
        raise UserError("its mean counts the class token, which Vitrail's does not; train it again with pool='cls'")
    if class_token and "pool" not in config:
        assumed.append("pooling: by the class token, vit-pytorch's default")
    channels, patch = _patch(inputs, config)
    if simple:
        side = config.get("image_size", preprocess.size if preprocess else None)
        if side is None:
            side = [_SIDE // p * p for p in patch]
            assumed.append(f"image size: {side[0]} × {side[1]}; else put image_size into config.json next to the file")
        sizes: dict[str, Any] = {"image_size": side, "patch_size": patch, "channels": channels, "dim": dim}
    else:
        sizes = geometry((dim, channels, *patch), shapes["pos_embedding"][-2] - class_token, config.get("image_size"))
    heads, head_dim, about_heads = _heads(shapes, config, dim)
    vit = {
        **sizes,
        "depth": depth_of(shapes, "transformer.layers."),
        "heads": heads,
        "mlp_dim": shapes[f"{BLOCK}1.net.1.weight"][0],
        "embed": {"kind": "patch", "norm": norm},
        "block": {
            "norm_eps": EPS,
            "head_dim": None if heads * head_dim == dim else head_dim,
            "qkv_bias": False,
            "out_bias": f"{BLOCK}0.to_out.0.bias" in shapes,
        },
        "positions": "sincos_2d" if simple else "learned",
        "class_token": class_token,
        "final_norm": "transformer.norm.weight" in shapes,
    }
    head_norm = f"{head}.0.weight" in shapes
    outputs = shapes.get(f"{head}.1.weight" if head_norm else f"{head}.weight", (0,))[0]
    return pooled.describe(
        vit_config(vit),
        pool="cls" if class_token else "mean",
        head=HeadConfig(norm=head_norm),
        outputs=outputs,
        classes=beside.classes if outputs else (),
        preprocess=preprocess,
        assumed=(*assumed, *about_heads),
    )


def rules(description: Description) -> list[Rule]:
    model = pooled.read(description)
    vit = model.vit
    simple = vit.positions == "sincos_2d"
    number = 2 if vit.patch_embed.norm else 1
    patch = vit.channels, vit.patch_size
    block = [
        *layer("norm1", "0.norm"),
        same("attention.qkv.weight", "0.to_qkv.weight"),
        *(
            [_identity(vit.dim)]
            if _without_out(vit)
            else layer("attention.out", "0.to_out" if simple else "0.to_out.0")
        ),
        *layer("norm2", "1.net.0"),
        *layer("mlp.fc1", "1.net.1"),
        *layer("mlp.fc2", "1.net.3" if simple else "1.net.4"),
    ]
    head = "linear_head" if simple else "mlp_head"
    return [
        shaped("vit.class_token", "cls_token", -1, vit.dim),
        shaped("vit.positions.embedding", "pos_embedding", -1, vit.dim) if vit.class_token else _averaged(vit.dim),
        *(
            patches_last(f"vit.embed.norm_in.{part}", f"to_patch_embedding.1.{part}", *patch)
            for part in ("weight", "bias")
        ),
        patches_last("vit.embed.projection.weight", f"to_patch_embedding.{number}.weight", *patch),
        same("vit.embed.projection.bias", f"to_patch_embedding.{number}.bias"),
        *layer("vit.embed.norm_out", "to_patch_embedding.3"),
        *repeated(vit.depth, "vit.blocks.{i}.", "transformer.layers.{i}.", block),
        *layer("vit.norm", "transformer.norm"),
        *layer("head.norm", f"{head}.0"),
        *layer("head.output", f"{head}.1" if model.head.norm else head),
    ]


def lacks(description: Description) -> str | None:
    """What neither ViT nor SimpleViT can be."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    simple = vit.positions == "sincos_2d"
    return tensors_only.lacks(model) or tensors_only.first(
        (
            (f"{vit.embed.kind} stem", vit.embed.kind != "patch"),
            ("patches without LayerNorm", not vit.patch_embed.norm),
            ("patches without bias", not vit.patch_embed.bias),
            ("bias in queries, keys and values", block.qkv_bias),
            ("attention output without bias with learned positions", not simple and not block.out_bias),
            ("attention output with bias with fixed positions", simple and block.out_bias),
            ("class token with fixed positions", simple and vit.class_token),
            ("model of fixed positions without a head", simple and not model.outputs),
            ("output projection of a single head", not simple and _single(vit)),
            ("norm before the blocks", vit.pre_norm),
            ("model without a final norm", not vit.final_norm),
            (f"LayerNorm with eps {block.norm_eps}", block.norm_eps != EPS),
            (f"{block.mlp} activation", block.mlp != "gelu"),
            ("LayerScale", block.layer_scale is not None),
            ("mean pooling with a class token", vit.class_token and model.pool != "cls"),
            ("attention pooling", model.pool == "attention"),
            ("head with a hidden layer", model.head.hidden is not None),
            *tensors_only.beyond_a_linear_head(model),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """The arguments of ViT or SimpleViT, and our JSON."""
    model = pooled.read(description)
    vit = model.vit
    config = {
        "image_size": tensors_only.plain(vit.image_size),
        "patch_size": tensors_only.plain(vit.patch_size),
        "num_classes": model.outputs,
        "dim": vit.dim,
        "depth": vit.depth,
        "heads": vit.heads,
        "mlp_dim": vit.mlp_dim,
        "channels": vit.channels,
        "dim_head": vit.head_dim,
    }
    pool = {"pool": "cls" if vit.class_token else "mean"} if vit.positions == "learned" else {}
    return tensors_only.sidecars(model, config | pool)


def _patch(inputs: int, config: dict[str, Any]) -> tuple[int, Pair]:
    """Channels and patch size of a flattened patch: from the config, else a square of 3 channels or of 1."""
    if "patch_size" in config:
        size = config["patch_size"]
        height, width = (size, size) if isinstance(size, int) else size
        return inputs // (height * width), (height, width)
    for channels in (config["channels"],) if "channels" in config else (3, 1):
        side = math.isqrt(inputs // channels)
        if channels * side**2 == inputs:
            return channels, (side, side)
    raise UserError(
        f"patches of {inputs} numbers are no squares of 3 channels; put channels and patch_size in config.json"
    )


def _heads(shapes: Shapes, config: dict[str, Any], dim: int) -> tuple[int, int, tuple[str, ...]]:
    """Their number and width; and what was assumed."""
    inner = shapes[f"{BLOCK}0.to_qkv.weight"][0] // 3
    assumed: tuple[str, ...] = ()
    if "heads" in config:
        heads = config["heads"]
    elif "dim_head" in config:
        heads = inner // config["dim_head"]
    elif not any(name.startswith(f"{BLOCK}0.to_out") for name in shapes):  # left out for one head as wide as a token
        heads = 1
    else:
        heads = inner // _HEAD_DIM
        assumed = (
            f"attention heads: {heads} of {_HEAD_DIM} channels; else put heads into config.json next to the file",
        )
    if not heads or inner % heads:
        raise UserError(
            f"its attention has {inner} channels, no multiple of {heads or _HEAD_DIM}; put heads in config.json"
        )
    return heads, inner // heads, assumed


def _averaged(dim: int) -> Rule:
    """Where tokens are averaged, the class token is a tensor without rows."""
    return Rule(
        "vit.positions.embedding",
        ("pos_embedding", "cls_token"),
        lambda parts: parts[0],
        lambda value: (value.reshape(-1, dim), value.new_empty(0, dim)),
    )


def _single(vit: ViTConfig) -> bool:
    """One head as wide as a token: vit-pytorch leaves out its output projection."""
    return vit.heads == 1 and vit.head_dim == vit.dim


def _without_out(vit: ViTConfig) -> bool:
    return _single(vit) and vit.positions == "learned"


def _identity(dim: int) -> Rule:
    return Rule("attention.out.weight", (), lambda _: torch.eye(dim), lambda value: ())
