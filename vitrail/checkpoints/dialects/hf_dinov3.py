"""Hugging Face DINOv3: DINOv3ViTModel and the backbone of others.

Patches turn by their place in the image, class token and registers do not; keys have no bias.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

import torch

from vitrail.checkpoints import dinov3_facts as dinov3
from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import parts, pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rotary_rows import Layout
from vitrail.checkpoints.rules import Rule, layer, repeated, same, stacked, stacked_layer
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry
from vitrail.errors import UserError
from vitrail.files import Json

LIBRARY = "huggingface"
TASKS = pooled.TASKS
FILE = hf.FILE
PARTS = (parts.ROTARY,)
MASK = "embeddings.mask_token"
IGNORED = (MASK, "embeddings.register_tokens")  # there may be none, in a tensor of length 0
LAYOUT = Layout(halves=True, rows_first=True)
FIRST = "layer.0."
BLOCK = [
    *layer("norm1", "norm1"),
    *layer("attention.out", "attention.o_proj"),
    same("branch1.scale.gamma", "layer_scale1.lambda1"),
    *layer("norm2", "norm2"),
    same("branch2.scale.gamma", "layer_scale2.lambda1"),
]


def canonical(name: str) -> str:
    """As on disk; transformers 5 has ``model.layer.`` in memory."""
    return re.sub(r"^model\.layer\.", "layer.", name)


def matches(names: Collection[str], beside: Beside) -> bool:
    """By LayerScale's name in layers that are called so, and nothing that is added to tokens."""
    return {
        f"{FIRST}layer_scale1.lambda1",
        f"{FIRST}attention.q_proj.weight",
        "embeddings.patch_embeddings.weight",
    } <= set(names) and "embeddings.position_embeddings" not in names


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Class token, registers, LayerScale, GELU or SwiGLU.

    Raises:
        UserError: biases of queries and values that are not there together, or a gate of another activation.
    """
    config = hf.Config(beside.config)
    kernel, registers = shapes["embeddings.patch_embeddings.weight"], shapes.get("embeddings.register_tokens", (1, 0))
    gate = f"{FIRST}mlp.gate_proj.weight"
    biases = {part: f"{FIRST}attention.{part}_proj.bias" in shapes for part in "qkv"}
    if biases["q"] != biases["v"] or (biases["k"] and not biases["q"]):
        raise UserError("only some of its queries, keys and values have biases, which Vitrail does not compute")
    if gate in shapes and config.get("hidden_act", "silu") not in ("silu", "swish"):
        raise UserError(f"it has an MLP with a gate of {config.get('hidden_act', '')}, which Vitrail does not compute")
    size = config.get("image_size", 224)
    height, width = (size, size) if isinstance(size, int) else size
    vit = {
        **geometry(kernel, (height // kernel[2]) * (width // kernel[3]), (height, width)),
        **dinov3.positions(config.get("rope_theta", dinov3.THETA)),
        "depth": depth_of(shapes, "layer.", config.values.get("num_hidden_layers")),
        "heads": config.get("num_attention_heads", dinov3.heads(kernel[0])),
        "mlp_dim": shapes[f"{FIRST}mlp.up_proj.weight"][0],
        "registers": registers[1],
        "block": {
            "mlp": "swiglu" if gate in shapes else config.activation(),
            "norm_eps": config.get("layer_norm_eps", dinov3.EPS),
            "qkv_bias": biases["q"],
            "key_bias": biases["k"] or not biases["q"],
            "out_bias": f"{FIRST}attention.o_proj.bias" in shapes,
            "layer_scale": float(beside.config.get("layerscale_value", 1.0)),
        },
    }
    return hf.describe(vit, config, beside, pool="cls")


def rules(description: Description) -> list[Rule]:
    """With the mask token of pretraining, which every model has there."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    names = [f"attention.{part}_proj" for part in "qkv"]
    if block.mlp == "swiglu":
        mlp = stacked_layer("mlp.fc1", "mlp.gate_proj", "mlp.up_proj")
    else:
        mlp = layer("mlp.fc1", "mlp.up_proj")
    each = [
        *BLOCK,
        *stacked_layer("attention.qkv", *names),
        stacked("attention.qv_bias", f"{names[0]}.bias", f"{names[2]}.bias"),
        *mlp,
        *layer("mlp.fc2", "mlp.down_proj"),
    ]
    token, registers = same("vit.class_token", "embeddings.cls_token"), "embeddings.register_tokens"
    if model.layout is None:
        token = hf.with_spare(token, MASK, torch.zeros_like)
        if not vit.registers:
            token = hf.with_spare(token, registers, lambda value: value[:, :0])
    return [
        token,
        same("vit.registers", registers),
        *layer("vit.embed.projection", "embeddings.patch_embeddings"),
        *repeated(vit.depth, "vit.blocks.{i}.", "layer.{i}.", LAYOUT.rules(each, vit.head_dim)),
        *layer("vit.norm", "norm"),
    ]


def lacks(description: Description) -> str | None:
    """What a DINOv3ViTModel cannot be."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    own = {
        f"{vit.positions} positions": not dinov3.is_its(vit),
        "class token without position": False,
        "register tokens": False,
        "LayerScale": False,
        "blocks without LayerScale": block.layer_scale is None,
        "SwiGLU": False,
        "attention without output bias": False,
        "attention without a bias of keys": False,
        "heads of a width other than dim / heads": vit.head_dim * vit.heads != vit.dim,
        "head": bool(model.outputs),
    }
    return hf.lacks(replace(model, labels=True), own)


def sidecars(description: Description) -> dict[str, Json]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    assert vit.rotary is not None
    config: dict[str, Json] = {
        "architectures": ["DINOv3ViTModel"],
        "model_type": "dinov3_vit",
        **hf.backbone_json(model),
        "intermediate_size": vit.mlp_dim,
        "num_register_tokens": vit.registers,
        "query_bias": block.qkv_bias,
        "key_bias": block.qkv_bias and block.key_bias,
        "value_bias": block.qkv_bias,
        "proj_bias": block.out_bias,
        "use_gated_mlp": block.mlp == "swiglu",
        "layerscale_value": block.layer_scale,
        "attention_dropout": block.attention_dropout,
        "rope_theta": vit.rotary.theta,
        "dtype": "float32",
    }
    return hf.sidecars(model, config)
