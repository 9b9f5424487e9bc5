"""What Hugging Face's vision towers of image–text models have in common, alone or in the file of both encoders."""

from __future__ import annotations

from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.rules import Rule, layer, repeated, same, shaped, stacked_layer
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry
from vitrail.files import Json

TEXT = ("text_model.*", "text_projection.*", "logit_scale", "logit_bias", "vision_model.embeddings.position_ids")
BLOCK = [
    *layer("norm1", "layer_norm1"),
    *stacked_layer("attention.qkv", *(f"self_attn.{part}_proj" for part in "qkv")),
    *layer("attention.out", "self_attn.out_proj"),
    *layer("norm2", "layer_norm2"),
    *layer("mlp.fc1", "mlp.fc1"),
    *layer("mlp.fc2", "mlp.fc2"),
]


def canonical(name: str) -> str:
    """With the ``vision_model.`` that towers leave out in the memory of transformers 5."""
    outside = ("text_model.", "text_projection.", "visual_projection.", "logit_", "classifier.")
    return hf.prefixed(name, "vision_model.", outside)


def vision_config(config: dict[str, Any]) -> dict[str, Any]:
    """The tower's part of a config; ``vision_config_dict`` is the older name, and wins as in the library."""
    if not any(key in config for key in ("vision_config", "vision_config_dict")):
        return config
    return {**(config.get("vision_config") or {}), **(config.get("vision_config_dict") or {})}


def settings(shapes: Shapes, config: hf.Config, *, act: str, eps: float, class_token: bool) -> dict[str, Any]:
    """What :class:`ViTConfig` takes. Arguments: the library's defaults. Errors as :func:`huggingface.settings`."""
    kernel = shapes["vision_model.embeddings.patch_embedding.weight"]
    positions = shapes["vision_model.embeddings.position_embedding.weight"]
    return {
        **geometry(kernel, positions[0] - class_token, config.values.get("image_size")),
        "depth": depth_of(shapes, "vision_model.encoder.layers.", config.values.get("num_hidden_layers")),
        "heads": config.heads(kernel[0]),
        "mlp_dim": shapes["vision_model.encoder.layers.0.mlp.fc1.weight"][0],
        "block": {"mlp": config.activation(act), "norm_eps": config.get("layer_norm_eps", eps)},
        "class_token": class_token,
        "resampling": "bicubic",
    }


def rules(model: PooledModel) -> list[Rule]:
    """What both families keep alike."""
    return [
        shaped("vit.positions.embedding", "vision_model.embeddings.position_embedding.weight", -1, model.vit.dim),
        *layer("vit.embed.projection", "vision_model.embeddings.patch_embedding"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "vision_model.encoder.layers.{i}.", BLOCK),
        *layer("vit.norm", "vision_model.post_layernorm"),
        same("head.output.bias", "classifier.bias"),
        same("head.output.weight", "classifier.weight" if model.labels else "visual_projection.weight"),
    ]


def lacks(model: PooledModel, own: dict[str, bool]) -> str | None:
    """What neither has, corrected by ``own``."""
    block = model.vit.block
    common = {
        "heads of a width other than dim / heads": model.vit.head_dim * model.vit.heads != model.vit.dim,
        "attention without bias": not block.qkv_bias,
        "oblong images or patches": hf.oblong(model),
    }
    return hf.lacks(model, {**common, **own})


def sidecars(model: PooledModel, family: str, architecture: str, **more: Json) -> dict[str, Json]:
    """``config.json`` and ``preprocessor_config.json``; a classifier's config is that of both encoders.

    Args:
        family: "clip" or "siglip".
        more: further settings of the tower.
    """
    tower = {
        **hf.backbone_json(model),
        "intermediate_size": model.vit.mlp_dim,
        "attention_dropout": model.vit.block.attention_dropout,
        **more,
    }
    kind = {"architectures": [architecture], "dtype": "float32"}
    if model.outputs and model.labels:
        config = {**kind, "model_type": family, "vision_config": tower, **hf.labels_json(model)}
    else:
        config = {**kind, "model_type": f"{family}_vision_model", **tower}
    return hf.sidecars(model, config)
