"""Meta's own DINOv2 (https://github.com/facebookresearch/dinov2), with registers (Darcet et al. 2024) or without.

timm's names but for what timm's model lacks: ``mask_token`` (for pretraining alone), ``register_tokens``, and SwiGLU's
``w12`` and ``w3``. Registers follow the class token after positions were added. A folder that we write is opened by
``DinoVisionTransformer(**json.load(open("config.json")))`` and ``load_state_dict``.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import timm
from vitrail.checkpoints.rules import Rule, layer, repeated, same
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, usual_heads, vit_config
from vitrail.checkpoints.timm_config import ratio
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import PoolKind

LIBRARY = "meta"
TASKS = pooled.TASKS
FILE = "model.safetensors"
HEAD = "linear_head"  # of the published linear classifiers, beside ``backbone``
IGNORED = ("mask_token",)
NORM_EPS = 1e-6
_POOLS: dict[int, PoolKind] = {1: "cls", 2: "cls_mean", 5: "cls4_mean"}
"""By how many widths of a token a linear head takes: the class token's; with the patches' mean; of four layers."""
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESAMPLING = {(False, 0.1): "bicubic_offset", (True, 0.0): "bicubic_antialias", (False, 0.0): "bicubic"}
"""By (interpolate_antialias, interpolate_offset); Meta's models have the first, those with registers the second."""


def canonical(name: str) -> str:
    """Training's own files number blocks in chunks: ``blocks.{chunk}.{i}.``."""
    return re.sub(r"^blocks\.\d+\.(\d+)\.", r"blocks.\1.", name)


def matches(names: Collection[str], beside: Beside) -> bool:
    """By what timm's DINOv2 lacks; a bare TIPSv2 has the same names and a config of its own."""
    first = {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} <= set(names)
    tips = str(beside.config.get("model_type", "")).startswith("tipsv2")
    return first and timm.is_dinov2(names) and not tips


def describe(shapes: Shapes, beside: Beside) -> Description:
    """From the shapes; the heads from ``config.json``, else from the width."""
    config, assumed = beside.config, []
    kernel, registers = shapes["patch_embed.proj.weight"], shapes.get("register_tokens", (1, 0))[1]
    swiglu = "blocks.0.mlp.w12.weight" in shapes
    heads = config.get("num_heads")
    if heads is None:
        heads = usual_heads(kernel[0])
        assumed.append(f"heads: {heads}, usual for width {kernel[0]}; else put num_heads into config.json")
    vit = {
        **geometry(kernel, shapes["pos_embed"][1] - 1, config.get("img_size")),
        "depth": depth_of(shapes, "blocks."),
        "heads": heads,
        "mlp_dim": shapes[f"blocks.0.mlp.{'w3' if swiglu else 'fc2'}.weight"][1],
        "registers": registers,
        "block": {
            "mlp": "swiglu" if swiglu else "gelu",
            "norm_eps": NORM_EPS,
            "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
            "layer_scale": config.get("init_values", 1e-5),
        },
        "resampling": _resampling(config, bool(registers)),
    }
    model = vit_config(vit)
    preprocess = tensors_only.preprocess(beside)
    if preprocess is None:
        values: dict[str, Any] = {"mean": _MEAN, "std": _STD} if model.channels == 3 else {}
        preprocess = PreprocessConfig(
            size=model.image_size, channels=model.channels, resize="crop", interpolation="bicubic", **values
        )
        assumed.append(
            "preprocessing: shorter side to the size, bicubic, ImageNet's mean; put preprocessor_config.json next to it"
        )
    layout = ["mask_token"] if "mask_token" in shapes else []
    outputs, width = shapes.get(f"{HEAD}.weight", (0, model.dim))
    if width // model.dim not in _POOLS or width % model.dim:
        raise UserError(f"its linear head takes {width} features, which no pooling of width {model.dim} gives")
    return pooled.describe(
        model,
        pool=_POOLS[width // model.dim],
        head=HeadConfig(bias=f"{HEAD}.bias" in shapes or not outputs),
        outputs=outputs,
        classes=beside.classes if outputs else (),
        preprocess=preprocess,
        assumed=assumed,
        layout=layout,
    )


def rules(description: Description) -> list[Rule]:
    """In the layout ``mask_token`` the file has one, which is left out; a model that is written gets one of zeros."""
    model = pooled.read(description)
    swiglu = model.vit.block.mlp == "swiglu"
    mlp = {"mlp.fc1": "mlp.w12", "mlp.fc2": "mlp.w3"} if swiglu else {"mlp.fc1": "mlp.fc1", "mlp.fc2": "mlp.fc2"}
    block = [rule for rule in timm.BLOCK if not rule.ours.startswith("mlp.")]
    block += [rule for ours, theirs in mlp.items() for rule in layer(ours, theirs)]
    masked = model.layout is None or "mask_token" in model.layout
    return [
        _WITH_MASK_TOKEN if masked else same("vit.class_token", "cls_token"),
        same("vit.registers", "register_tokens"),
        same("vit.positions.embedding", "pos_embed"),
        *layer("vit.embed.projection", "patch_embed.proj"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "blocks.{i}.", block),
        *layer("vit.norm", "norm"),
        *layer("head.output", HEAD),
    ]


def lacks(description: Description) -> str | None:
    """What a DinoVisionTransformer without a head cannot be."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    swiglu = block.mlp == "swiglu"
    return tensors_only.first(
        (
            (f"{vit.positions} positions", vit.positions != "learned"),
            ("head", bool(model.outputs) or model.head.norm or model.head.hidden is not None),
            (f"{model.pool} pooling", model.pool != "cls"),
            *tensors_only.beyond_plain_patches(vit),
            ("image that is no square", vit.image_size[0] != vit.image_size[1]),
            ("patches that are no squares", vit.patch_size[0] != vit.patch_size[1]),
            ("model without class token", not vit.class_token),
            ("class token without position", not vit.class_position),
            ("distillation token", vit.distillation_token),
            ("norm before the blocks", vit.pre_norm),
            ("model without a final norm", not vit.final_norm),
            ("post-norm blocks", block.order != "pre"),
            (f"MLP of {block.mlp}", block.mlp not in ("gelu", "swiglu")),
            ("SwiGLU whose width is no multiple of 8", swiglu and vit.mlp_dim % 8 != 0),
            (f"LayerNorm eps {block.norm_eps:g}", block.norm_eps != NORM_EPS),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            ("QK-norm", block.qk_norm),
            ("keys without bias", not block.key_bias),
            ("attention without output bias", not block.out_bias),
            ("model without LayerScale", block.layer_scale is None),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """The constructor's arguments, and the preprocessing."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    swiglu = block.mlp == "swiglu"
    arguments = {name: rule for rule, name in _RESAMPLING.items()}
    antialias, offset = arguments.get(vit.resampling, _usual(bool(vit.registers)))
    config = {
        "img_size": vit.image_size[0],
        "patch_size": vit.patch_size[0],
        "in_chans": vit.channels,
        "embed_dim": vit.dim,
        "depth": vit.depth,
        "num_heads": vit.heads,
        "mlp_ratio": ratio(vit.mlp_dim * 3 // 2 if swiglu else vit.mlp_dim, vit.dim),  # SwiGLU takes two thirds of it
        "ffn_layer": "swiglufused" if swiglu else "mlp",
        "qkv_bias": block.qkv_bias,
        "init_values": block.layer_scale or 1e-5,  # it takes 0 for "none"
        "block_chunks": 0,
        "num_register_tokens": vit.registers,
        "interpolate_antialias": antialias,
        "interpolate_offset": offset,
    }
    return tensors_only.sidecars(model, config)


def _usual(registers: bool) -> tuple[bool, float]:
    return (True, 0.0) if registers else (False, 0.1)


def _resampling(config: dict[str, Any], registers: bool) -> str:
    """From the constructor's arguments, else as Meta's models have it."""
    antialias, offset = _usual(registers)
    rule = (config.get("interpolate_antialias", antialias), config.get("interpolate_offset", offset))
    if rule not in _RESAMPLING:
        raise UserError(
            f"interpolate_antialias, interpolate_offset = {rule} is no rule of Vitrail; take one of Meta's models"
        )
    return _RESAMPLING[rule]


_WITH_MASK_TOKEN = Rule(
    "vit.class_token",
    ("cls_token", "mask_token"),
    lambda parts: parts[0],
    lambda value: (value, value.new_zeros(1, value.shape[-1])),
)
