"""Google's .npz files: vision_transformer (https://github.com/google-research/vision_transformer), big_vision
(https://github.com/google-research/big_vision), and the hybrids of both.

Three layouts are one table: ``canonical`` gives big_vision's names the older numbering, and files that stack all blocks
along a leading axis (flax's scan) are read block by block. Kernels are (in, out) or (height, width, in, out); attention
keeps its heads as a separate axis. We write the layout of the ViT paper, which both repositories and timm read.
"""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Collection
from typing import Any

import torch

from vitrail.checkpoints import pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, mapped, nth, repeated, same, shaped, transposed, under
from vitrail.checkpoints.shapes import Shapes, geometry, vit_config
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import PoolKind
from vitrail.nn.resnet_stem import ResNetStemConfig

LIBRARY = "google"
TASKS = pooled.TASKS
FILE = "model.npz"
IGNORED = ("txt/*", "t", "b", "opt/*", "extra/*")  # text tower, temperature and bias of SigLIP; optimizer state
EPS = 1e-6
STEM: dict[str, Any] = {"kind": "resnet", "weight_eps": 1e-5, "weight_eps_of": "deviation", "norm_eps": 1e-6}
POSITIONS = "Transformer/posembed_input/pos_embedding"
_PREFIXES = ("opt/target/", "params/img/", "params/")
_POSITIONS = ("pos_embedding", "Transformer/pos_embedding")
_BIG_VISION = {
    "LayerNorm_1": "LayerNorm_2", "MultiHeadDotProductAttention_0": "MultiHeadDotProductAttention_1",
    "MlpBlock_0": "MlpBlock_3",
}  # fmt: skip
_IN_BLOCK = re.compile(rf"(Transformer/encoderblock(?:_\d+)?/)({'|'.join(_BIG_VISION)})/")
_INLINE_HEAD = re.compile(r"probe$|(MlpBlock_0|MultiHeadDotProductAttention_0|LayerNorm_0)/")
_DEFAULT_SIDE = 224


def canonical(name: str) -> str:
    """Without the prefixes of checkpoints, in the ViT paper's numbering."""
    name = name.removeprefix(next((p for p in _PREFIXES if name.startswith(p)), ""))
    if name in _POSITIONS:
        return POSITIONS
    if _INLINE_HEAD.match(name):
        return f"MAPHead_0/{name}"
    return _IN_BLOCK.sub(lambda found: f"{found[1]}{_BIG_VISION[found[2]]}/", name)


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the patch projection and the encoder."""
    return "embedding/kernel" in names and any(name.startswith("Transformer/encoderblock") for name in names)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Everything stands in the shapes, the number of heads too; GELU is JAX's approximation.

    Raises:
        UserError: patches of any size (NaFlex), or attention pooling of another kind than the blocks'.
    """
    scan = "Transformer/encoderblock/LayerNorm_0/scale" in shapes
    block = "Transformer/encoderblock/" if scan else "Transformer/encoderblock_0/"
    dim, heads, head_dim = shapes[f"{block}MultiHeadDotProductAttention_1/query/kernel"][scan:]
    blocks = {name.split("/")[1] for name in shapes if name.startswith("Transformer/encoderblock_")}
    embedding, assumed = _embedding(shapes, beside)
    class_token = "cls" in shapes
    pool: PoolKind = "attention" if "MAPHead_0/probe" in shapes else "cls" if class_token else "mean"
    if pool == "attention":
        kernel = shapes["MAPHead_0/MultiHeadDotProductAttention_0/query/kernel"]
        if class_token or kernel != (dim, heads, head_dim) or heads * head_dim != dim:
            raise UserError("its attention pooling is not over patches in the heads of the blocks; Vitrail has no such")
    vit = {
        **embedding,
        "depth": shapes[f"{block}LayerNorm_0/scale"][0] if scan else len(blocks),
        "heads": heads,
        "mlp_dim": shapes[f"{block}MlpBlock_3/Dense_0/kernel"][-1],
        "block": {"mlp": "gelu_tanh", "norm_eps": EPS, "head_dim": None if heads * head_dim == dim else head_dim},
        "resampling": "bilinear_corners",
        "class_token": class_token,
    }
    outputs = shapes.get("head/bias", (0,))[0]
    return pooled.describe(
        vit_config(vit),
        pool=pool,
        head=HeadConfig(hidden=shapes.get("pre_logits/bias", (None,))[0]),
        outputs=outputs,
        labels=not any(name.startswith("txt/") for name in shapes),
        classes=beside.classes if outputs else (),
        preprocess=tensors_only.preprocess(beside),
        assumed=assumed,
        layout=["scan"] if scan else [],
    )


def rules(description: Description) -> list[Rule]:
    """In the layout ``scan`` a file keeps each tensor of all blocks as one, along a leading axis."""
    model = pooled.read(description)
    vit = model.vit
    scan = "scan" in (model.layout or ())
    block, number = _block(vit.heads, vit.head_dim), "" if scan else "_{i}"
    blocks = repeated(vit.depth, "vit.blocks.{i}.", f"Transformer/encoderblock{number}/", block)
    if scan:
        blocks = [nth(rule, i // len(block)) for i, rule in enumerate(blocks)]
    return [
        same("vit.class_token", "cls"),
        same("vit.positions.embedding", POSITIONS),
        *_conv("vit.embed.projection", "embedding"),
        same("vit.embed.projection.bias", "embedding/bias"),
        *_stem(vit.embed.layers if isinstance(vit.embed, ResNetStemConfig) else ()),
        *blocks,
        *_norm("vit.norm", "Transformer/encoder_norm"),
        same("pool.probe", "MAPHead_0/probe"),
        *_pool_attention(vit.heads, vit.head_dim),
        *_norm("pool.norm", "MAPHead_0/LayerNorm_0"),
        *_mlp("pool.mlp", "MAPHead_0/MlpBlock_0"),
        *_dense("head.hidden", "pre_logits"),
        *_dense("head.output", "head"),
    ]


def lacks(description: Description) -> str | None:
    """What Google's code cannot be."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    stem = isinstance(vit.embed, ResNetStemConfig) and dataclasses.replace(vit.embed, **STEM) != vit.embed
    gelu = {"gelu": "exact GELU (its own is the tanh approximation)"}.get(block.mlp, f"{block.mlp} activation")
    return tensors_only.lacks(model) or tensors_only.first(
        (
            (gelu, block.mlp != "gelu_tanh"),
            ("weight standardisation or GroupNorm with this stem's eps", stem),
            ("patches without bias", not vit.patch_embed.bias),
            ("norm of patches", vit.patch_embed.norm),
            (f"{vit.positions} positions", vit.positions != "learned"),
            ("rectangular images", vit.image_size[0] // vit.patch_size[0] != vit.image_size[1] // vit.patch_size[1]),
            ("norm before the blocks", vit.pre_norm),
            ("model without a final norm", not vit.final_norm),
            (f"LayerNorm with eps {block.norm_eps}", block.norm_eps != EPS),
            ("LayerScale", block.layer_scale is not None),
            ("attention without bias", not (block.qkv_bias and block.out_bias)),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            (f"{model.pool} pooling with a class token", vit.class_token and model.pool != "cls"),
            *tensors_only.beyond_a_linear_head(model),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """Our JSON: Google's files have none."""
    model = pooled.read(description)
    return tensors_only.sidecars(model)


def _embedding(shapes: Shapes, beside: Beside) -> tuple[dict[str, Any], tuple[str, ...]]:
    """What :class:`ViTConfig` says of stem, patches and positions; and what was assumed."""
    kernel = shapes["embedding/kernel"]
    if len(kernel) != 4:
        raise UserError("its patches are matrices of any image size (NaFlex), which Vitrail has not; use another file")
    patch, channels, dim, embed = kernel[:2], kernel[2], kernel[3], {}
    if "conv_root/kernel" in shapes:
        units = {found.groups() for name in shapes if (found := re.match(r"block(\d+)/unit(\d+)/", name))}
        stages = sorted({int(stage) for stage, _ in units})
        layers = [sum(int(stage) == each for stage, _ in units) for each in stages]
        channels, width = shapes["conv_root/kernel"][2:]
        stride = 4 * 2 ** max(len(layers) - 1, 0)
        patch, embed = (patch[0] * stride, patch[1] * stride), {"embed": {**STEM, "layers": layers, "width": width}}
    if POSITIONS in shapes:
        rows = shapes[POSITIONS][-2]
        own = "cls" in shapes and math.isqrt(rows - 1) ** 2 == rows - 1  # big_vision's class token has no position
        sizes = geometry((dim, channels, *patch), rows - own, beside.config.get("image_size"))
        return {**sizes, **embed, "class_position": own}, ()
    preprocess, stated = tensors_only.preprocess(beside), beside.config.get("image_size")
    size = preprocess.size if preprocess else stated or tuple(_DEFAULT_SIDE // p * p for p in patch)
    size = (size, size) if isinstance(size, int) else size
    sizes = {"image_size": size, "patch_size": patch, "channels": channels, "dim": dim}
    assumed = f"positions: none in the file, so big_vision's fixed sincos2d, for images of {size[0]} × {size[1]} pixels"
    return {**sizes, **embed, "positions": "sincos_2d"}, (assumed,)


def _dense(ours: str, theirs: str) -> list[Rule]:
    return [transposed(f"{ours}.weight", f"{theirs}/kernel"), same(f"{ours}.bias", f"{theirs}/bias")]


def _conv(ours: str, theirs: str) -> list[Rule]:
    """The kernel alone: (D, C, P, P), theirs (P, P, C, D)."""
    return [
        mapped(f"{ours}.weight", f"{theirs}/kernel", lambda v: v.permute(3, 2, 0, 1), lambda v: v.permute(2, 3, 1, 0))
    ]


def _norm(ours: str, theirs: str) -> list[Rule]:
    return [same(f"{ours}.weight", f"{theirs}/scale"), same(f"{ours}.bias", f"{theirs}/bias")]


def _group_norm(ours: str, theirs: str) -> list[Rule]:
    return [
        shaped(f"{ours}.{mine}", f"{theirs}/{other}", 1, 1, 1, -1)
        for mine, other in (("weight", "scale"), ("bias", "bias"))
    ]


def _mlp(ours: str, theirs: str) -> list[Rule]:
    return [*_dense(f"{ours}.fc1", f"{theirs}/Dense_0"), *_dense(f"{ours}.fc2", f"{theirs}/Dense_1")]


def _projections(ours: str, theirs: str, parts: tuple[str, ...], heads: int, head_dim: int) -> list[Rule]:
    """Our (n·H·d, D) of their n kernels (D, H, d) and biases (H, d)."""
    return [
        Rule(
            f"{ours}.weight",
            tuple(f"{theirs}/{part}/kernel" for part in parts),
            lambda kernels: torch.cat([kernel.flatten(1).T for kernel in kernels]),
            lambda value: [rows.T.reshape(-1, heads, head_dim) for rows in value.chunk(len(parts))],
        ),
        Rule(
            f"{ours}.bias",
            tuple(f"{theirs}/{part}/bias" for part in parts),
            lambda biases: torch.cat([bias.flatten() for bias in biases]),
            lambda value: [rows.reshape(heads, head_dim) for rows in value.chunk(len(parts))],
        ),
    ]


def _out(ours: str, theirs: str, heads: int, head_dim: int) -> list[Rule]:
    """Our (D, H·d) of their (H, d, D)."""
    return [
        mapped(
            f"{ours}.weight",
            f"{theirs}/out/kernel",
            lambda value: value.flatten(0, 1).T,
            lambda value: value.T.reshape(heads, head_dim, -1),
        ),
        same(f"{ours}.bias", f"{theirs}/out/bias"),
    ]


def _block(heads: int, head_dim: int) -> list[Rule]:
    attention = "MultiHeadDotProductAttention_1"
    return [
        *_norm("norm1", "LayerNorm_0"),
        *_projections("attention.qkv", attention, ("query", "key", "value"), heads, head_dim),
        *_out("attention.out", attention, heads, head_dim),
        *_norm("norm2", "LayerNorm_2"),
        *_mlp("mlp", "MlpBlock_3"),
    ]


def _pool_attention(heads: int, head_dim: int) -> list[Rule]:
    attention = "MAPHead_0/MultiHeadDotProductAttention_0"
    return [
        *_projections("pool.q", attention, ("query",), heads, head_dim),
        *_projections("pool.kv", attention, ("key", "value"), heads, head_dim),
        *_out("pool.out", attention, heads, head_dim),
    ]


def _stem(layers: tuple[int, ...]) -> list[Rule]:
    """The hybrids' ResNet; stages and units count from 1."""
    unit = [
        rule
        for i in (1, 2, 3)
        for rule in (*_conv(f"conv{i}", f"conv{i}"), *_group_norm(f"norm{i}", f"gn{i}"))
    ]  # fmt: skip
    unit += [*_conv("downsample.conv", "conv_proj"), *_group_norm("downsample.norm", "gn_proj")]
    found = [*_conv("vit.embed.root.conv", "conv_root"), *_group_norm("vit.embed.root.norm", "gn_root")]
    for stage, count in enumerate(layers):
        units = repeated(count, "{i}.", "unit{n}/", unit)
        found += under(f"vit.embed.stages.{stage}.", f"block{stage + 1}/", units)
    return found
