"""TIPSv2's vision tower in Hugging Face's and Google's files: Tipsv2VisionModel, Tipsv2Model.

The names of Meta's DINOv2 with one register; positions are resampled linearly. The text tower is left out.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import replace

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import dinov2, hf_dinov2
from vitrail.checkpoints.rules import Rule, under
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry
from vitrail.files import Json

LIBRARY = "huggingface"
TASKS = ("features",)
FILE = hf.FILE
LAST = True
PREFIX = "vision_encoder."
IGNORED = ("text_encoder.*", "temperature", "*mask_token")
FIRST = "blocks.0.attn.qkv.weight"
KIND = "tipsv2_vision_model"
EPS = 1e-6


def canonical(name: str) -> str:
    """transformers 5 writes the MLP under the names of the text tower's."""
    return re.sub(r"(blocks\.\d+\.mlp\.)c_(fc|proj)\.", lambda m: f"{m[1]}fc{'1' if m[2] == 'fc' else '2'}.", name)


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the prefix of the tower, else by the config alone: a bare one has the names of Meta's DINOv2."""
    return PREFIX + FIRST in names or (FIRST in names and beside.config.get("model_type") == KIND)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Class token, registers, LayerScale, GELU or SwiGLU."""
    values = beside.config.get("vision_config") or beside.config
    config, prefix = hf.Config(values), PREFIX if PREFIX + FIRST in shapes else ""
    first = f"{prefix}blocks.0."
    kernel = shapes[f"{prefix}patch_embed.proj.weight"]
    swiglu = f"{first}mlp.w12.weight" in shapes
    positions = shapes[f"{prefix}pos_embed"][-2] - 1
    vit = {
        **geometry(kernel, positions, values.get("image_size")),
        "depth": depth_of(shapes, f"{prefix}blocks.", config.values.get("num_hidden_layers")),
        "heads": config.heads(kernel[0]),
        "mlp_dim": shapes[f"{first}mlp.{'w3' if swiglu else 'fc2'}.weight"][1],
        "registers": shapes[f"{prefix}register_tokens"][-2],
        "resampling": "bilinear_antialias",
        "block": {
            "mlp": "swiglu" if swiglu else config.activation(),
            "norm_eps": config.get("layer_norm_eps", EPS),
            "qkv_bias": f"{first}attn.qkv.bias" in shapes,
            "layer_scale": float(values.get("layerscale_value", 1.0)),
        },
    }
    layout = ["mask_token", *([] if prefix else ["bare"])]
    return hf.describe(vit, config, beside, pool="cls", layout=layout)


def rules(description: Description) -> list[Rule]:
    """In the layout ``bare``, which is written, names have no prefix."""
    layout = description.layout
    prefix = "" if layout is None or "bare" in layout else PREFIX
    return under("", prefix, dinov2.rules(description))


def lacks(description: Description) -> str | None:
    """What a Tipsv2VisionModel cannot be; a model whose positions are resampled in another way is none."""
    model = pooled.read(description)
    vit = model.vit
    own = {
        "register tokens": False,
        "LayerScale": False,
        "blocks without LayerScale": vit.block.layer_scale is None,
        "SwiGLU": False,
        "MLP of this width": hf_dinov2.mlp_ratio(model) is None,
        "heads of a width other than dim / heads": vit.head_dim * vit.heads != vit.dim,
        "oblong images or patches": hf.oblong(model),
        f"resampling of positions by {vit.resampling}": vit.resampling != "bilinear_antialias",
        "head": bool(model.outputs),
    }
    return hf.lacks(replace(model, labels=True), own)


def sidecars(description: Description) -> dict[str, Json]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    return hf_dinov2.sidecars_as(model, KIND, "Tipsv2VisionModel", num_register_tokens=model.vit.registers)
