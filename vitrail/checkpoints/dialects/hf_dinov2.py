"""Hugging Face DINOv2 without registers: Dinov2Model, Dinov2ForImageClassification, the backbone of others.

The head sees the class token and the mean of the patches, side by side.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints.dialects import _huggingface as hf
from vitrail.checkpoints.model import Beside, Model, Shapes
from vitrail.checkpoints.rules import Rule, layer, repeated, same, stacked_layer
from vitrail.config import from_dict
from vitrail.vit import ViTConfig

LIBRARY = "huggingface"
FILE = hf.FILE
PREFIX = "dinov2."
IGNORED = ("dinov2.embeddings.mask_token",)
BLOCK = [
    *hf.QKV,
    *hf.ATTENTION_OUT,
    *layer("norm1", "norm1"),
    *layer("norm2", "norm2"),
    same("branch1.scale.gamma", "layer_scale1.lambda1"),
    same("branch2.scale.gamma", "layer_scale2.lambda1"),
]


def canonical(name: str) -> str:
    """With the prefix that bare models leave out, in version 4's words."""
    return hf.from_5(hf.prefixed(name, PREFIX, ("classifier.",)))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By LayerScale's name, without registers."""
    return (
        "dinov2.encoder.layer.0.layer_scale1.lambda1" in names
        and "dinov2.embeddings.position_embeddings" in names
        and "dinov2.embeddings.register_tokens" not in names
        and beside.config.get("model_type", "dinov2") == "dinov2"
    )


def describe(shapes: Shapes, beside: Beside) -> Model:
    return model_of(shapes, beside, PREFIX)


def model_of(shapes: Shapes, beside: Beside, prefix: str, **more: Any) -> Model:
    """Class token, learned positions, LayerScale, GELU or SwiGLU.

    Args:
        more: further settings of :class:`ViTConfig`.
    """
    config, mlp = hf.Config(beside.config), f"{prefix}encoder.layer.0.mlp"
    packed, split = f"{mlp}.weights_in.weight", f"{mlp}.gate_proj.weight"
    swiglu = packed in shapes or split in shapes
    vit = hf.settings(shapes, config, prefix=prefix, eps=1e-6, num_prefix=1, swiglu=swiglu)
    vit["block"]["layer_scale"] = float(beside.config.get("layerscale_value", 1.0))
    if packed in shapes:
        vit["mlp_dim"] = shapes[packed][0] // 2
    else:
        vit["mlp_dim"] = shapes[split if swiglu else f"{mlp}.fc1.weight"][0]
    outputs = shapes.get("classifier.weight", (0,))[0]
    return hf.Found(
        vit=from_dict(ViTConfig, vit | more, where="config.json"),
        pool="cls_mean" if outputs else "cls",
        outputs=outputs,
        classes=hf.classes(beside.config, beside, outputs),
        preprocess=hf.preprocess(beside),
        assumed=tuple(config.assumed),
        split=split in shapes,
    )


def rules(model: Model) -> list[Rule]:
    return rules_of(model, PREFIX)


def rules_of(model: Model, prefix: str) -> list[Rule]:
    """The table with any prefix."""
    if model.vit.block.mlp != "swiglu":
        mlp = [*layer("mlp.fc1", "mlp.fc1"), *layer("mlp.fc2", "mlp.fc2")]
    elif isinstance(model, hf.Found) and model.split:
        mlp = [*stacked_layer("mlp.fc1", "mlp.gate_proj", "mlp.up_proj"), *layer("mlp.fc2", "mlp.down_proj")]
    else:
        mlp = [*layer("mlp.fc1", "mlp.weights_in"), *layer("mlp.fc2", "mlp.weights_out")]
    return [
        *hf.embeddings(prefix),
        same("vit.registers", f"{prefix}embeddings.register_tokens"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", prefix + "encoder.layer.{i}.", [*BLOCK, *mlp]),
        *layer("head.output", "classifier"),
    ]


def lacks(model: Model) -> str | None:
    """What a Dinov2Model cannot be."""
    return lacks_of(model, {})


def lacks_of(model: Model, own: dict[str, bool]) -> str | None:
    """The same, corrected by ``own``."""
    vit, classes = model.vit, bool(model.outputs)
    return hf.lacks(
        model,
        {
            "LayerScale": False,
            "blocks without LayerScale": vit.block.layer_scale is None,
            "SwiGLU": False,
            "MLP of this width": mlp_ratio(model) is None,
            "oblong images or patches": hf.oblong(model),
            "cls pooling": classes and model.pool in (None, "cls"),
            "cls_mean pooling": not classes and model.pool == "cls_mean",
            **own,
        },
    )


def mlp_ratio(model: Model) -> int | None:
    """The whole number from which the library computes the MLP's width, or None: none gives this width."""
    dim, wanted, swiglu = model.vit.dim, model.vit.mlp_dim, model.vit.block.mlp == "swiglu"
    for ratio in range(1, 2 * wanted // dim + 2):
        width = (int(dim * ratio * 2 / 3) + 7) // 8 * 8 if swiglu else dim * ratio
        if width == wanted:
            return ratio
    return None


def sidecars(model: Model) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    architecture = "Dinov2ForImageClassification" if model.outputs else "Dinov2Model"
    return sidecars_of(model, "dinov2", architecture, use_mask_token=False)


def sidecars_of(model: Model, kind: str, architecture: str, **more: Any) -> dict[str, Any]:
    """The same of any model type."""
    vit = model.vit
    config = hf.config_json(
        model,
        kind,
        architecture,
        mlp_ratio=mlp_ratio(model),
        use_swiglu_ffn=vit.block.mlp == "swiglu",
        layerscale_value=vit.block.layer_scale,
        **more,
    )
    return hf.sidecars(model, config)
