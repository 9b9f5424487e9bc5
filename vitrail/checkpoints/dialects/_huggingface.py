"""What Hugging Face's ViT-like models have in common: ``config.json``, labels, preprocessing, block names."""

from __future__ import annotations

import re
from typing import Any

from vitrail.checkpoints.model import Beside, Model, Shapes, depth_of, geometry, usual_heads
from vitrail.checkpoints.rules import Rule, layer, same, stacked_layer
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import from_huggingface, to_huggingface
from vitrail.errors import UserError

FILE = "model.safetensors"
_ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu",
}  # fmt: skip
_FROM_5 = {
    ".attention.q_proj.": ".attention.attention.query.", ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.", ".attention.o_proj.": ".attention.output.dense.",
}  # fmt: skip
_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}
ATTENTION = [
    *stacked_layer("attention.qkv", *(f"attention.attention.{part}" for part in ("query", "key", "value"))),
    *layer("attention.out", "attention.output.dense"),
]


def prefixed(name: str, prefix: str, heads: tuple[str, ...]) -> str:
    """The name with the prefix of the backbone, which a bare backbone's file leaves out."""
    return name if name.startswith((prefix, *heads)) else prefix + name


def from_5(name: str) -> str:
    """A name as transformers 5 has it in memory → as it is on disk."""
    name = re.sub(r"^(\w+)\.layers\.", r"\1.encoder.layer.", name)
    for new, old in _FROM_5.items():
        name = name.replace(new, old)
    return name


def settings(
    shapes: Shapes, config: dict[str, Any], *, prefix: str, num_prefix: int, eps: float
) -> dict[str, Any]:
    """What :class:`ViTConfig` takes, from shapes first, then the config, then the library's defaults.

    Args:
        prefix: of the backbone's names.
        num_prefix: tokens that have a position beside the patches.
        eps: the library's default of ``layer_norm_eps``.
    """
    kernel = shapes[f"{prefix}embeddings.patch_embeddings.projection.weight"]
    positions = shapes[f"{prefix}embeddings.position_embeddings"]
    heads = config.get("num_attention_heads", usual_heads(kernel[0]))
    return {
        **geometry(kernel, positions[-2] - num_prefix, config.get("image_size")),
        "depth": depth_of(shapes, f"{prefix}encoder.layer."),
        "heads": heads,
        "block": {
            "mlp": activation(config),
            "norm_eps": config.get("layer_norm_eps", eps),
            "qkv_bias": f"{prefix}encoder.layer.0.attention.attention.query.bias" in shapes,
        },
        "resampling": "bicubic",
    }


def activation(config: dict[str, Any], default: str = "gelu") -> str:
    """Ours of ``hidden_act``.

    Raises:
        UserError: one that we do not have.
    """
    name = config.get("hidden_act", default)
    if name not in _ACTIVATIONS:
        raise UserError(f"hidden_act {name!r} is none of {', '.join(_ACTIVATIONS)}; this model cannot be computed here")
    return _ACTIVATIONS[name]


def activation_name(model: Model) -> str:
    """``hidden_act`` of ours."""
    return _NAMES[model.vit.block.mlp]


def classes(config: dict[str, Any], beside: Beside, count: int) -> tuple[str, ...]:
    """Names from ``id2label``, then ``classes.json``; equal names are told apart by their number.

    Raises:
        UserError: labels that are not numbered from 0 to ``count`` − 1.
    """
    labels = config.get("id2label")
    if not labels:
        return beside.classes
    try:
        names = [str(labels[str(i)]) for i in range(count)]
    except (KeyError, TypeError):
        raise UserError(f"id2label in config.json does not number the {count} outputs from 0; correct it") from None
    return tuple(name if names.count(name) == 1 else f"{name} ({i})" for i, name in enumerate(names))


def preprocess(beside: Beside) -> PreprocessConfig | None:
    """From ``preprocessor_config.json``, where there is one."""
    return from_huggingface(beside.preprocessor) if beside.preprocessor else None


def config_json(model: Model, kind: str, architecture: str, **more: Any) -> dict[str, Any]:
    """The part of ``config.json`` that all have."""
    vit = model.vit
    names = model.classes if model.labels else ()
    return {
        "architectures": [architecture],
        "model_type": kind,
        "hidden_size": vit.dim,
        "num_hidden_layers": vit.depth,
        "num_attention_heads": vit.heads,
        "image_size": vit.image_size[0] if vit.image_size[0] == vit.image_size[1] else list(vit.image_size),
        "patch_size": vit.patch_size[0] if vit.patch_size[0] == vit.patch_size[1] else list(vit.patch_size),
        "num_channels": vit.channels,
        "hidden_act": activation_name(model) if vit.block.mlp in _NAMES else "silu",
        "layer_norm_eps": vit.block.norm_eps,
        "hidden_dropout_prob": vit.block.dropout,
        "attention_probs_dropout_prob": vit.block.attention_dropout,
        "qkv_bias": vit.block.qkv_bias,
        "dtype": "float32",
        **({"id2label": dict(enumerate(names)), "label2id": {n: i for i, n in enumerate(names)}} if names else {}),
        **more,
    }


def sidecars(model: Model, config: dict[str, Any]) -> dict[str, Any]:
    """``config.json``, and ``preprocessor_config.json`` where the preprocessing is known."""
    found = {"config.json": config}
    if model.preprocess is not None:
        found["preprocessor_config.json"] = to_huggingface(model.preprocess)
    return found


def lacks(model: Model) -> str | None:
    """What none of these models has."""
    vit, block = model.vit, model.vit.block
    wanted = {
        f"{vit.embed.kind} stem": vit.embed.kind != "patch",
        "overlapping patches": getattr(vit.embed, "stride", None) not in (None, vit.patch_size),
        "padding of images": getattr(vit.embed, "pad", False),
        "patches without bias": not getattr(vit.embed, "bias", True),
        "norm of patches": getattr(vit.embed, "norm", False),
        f"{vit.positions} positions": vit.positions != "learned",
        "model without class token": not vit.class_token,
        "class token without position": not vit.class_position,
        "norm before the blocks": vit.pre_norm,
        "model without a final norm": not vit.final_norm,
        "post-norm blocks": block.order != "pre",
        "QK-norm": block.qk_norm,
        "attention without output bias": not block.out_bias,
        "heads of a width of their own": vit.head_dim * vit.heads != vit.dim,
        "head with hidden layer": model.head.hidden is not None,
        "head with a norm": model.head.norm,
        "head without bias": bool(model.outputs) and not model.head.bias,
        "projection of its features": bool(model.outputs) and not model.labels,
    }
    return next((name for name, there in wanted.items() if there), None)


def embeddings(prefix: str) -> list[Rule]:
    """Patch projection, class token and positions."""
    return [
        same("vit.class_token", f"{prefix}embeddings.cls_token"),
        same("vit.positions.embedding", f"{prefix}embeddings.position_embeddings"),
        *layer("vit.embed.projection", f"{prefix}embeddings.patch_embeddings.projection"),
        *layer("vit.norm", f"{prefix}layernorm"),
    ]
