"""Hugging Face ViT: ViTForImageClassification, ViTModel, and the encoders of ViTMAE and of the masked-image ViT.

Names are those on disk (transformers 4; 5 writes them too). The pooler of a ViTModel is a random matrix and is left out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints.dialects import _huggingface as hf
from vitrail.checkpoints.model import Beside, Model, Shapes
from vitrail.checkpoints.rules import Rule, layer, repeated
from vitrail.config import from_dict
from vitrail.vit import ViTConfig

LIBRARY = "huggingface"
FILE = hf.FILE
IGNORED = ("vit.pooler.*", "vit.embeddings.mask_token", "decoder.*")
BLOCK = [
    *hf.ATTENTION,
    *layer("norm1", "layernorm_before"),
    *layer("norm2", "layernorm_after"),
    *layer("mlp.fc1", "intermediate.dense"),
    *layer("mlp.fc2", "output.dense"),
]


def canonical(name: str) -> str:
    """With the ``vit.`` that bare models leave out, in version 4's words."""
    name = hf.from_5(hf.prefixed(name, "vit.", ("classifier.", "decoder.")))
    return name.replace(".mlp.fc1.", ".intermediate.dense.").replace(".mlp.fc2.", ".output.dense.")


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the names of the first block."""
    return (
        "vit.encoder.layer.0.layernorm_before.weight" in names
        and "vit.embeddings.position_embeddings" in names
        and beside.config.get("model_type", "vit") in ("vit", "vit_mae")
    )


def describe(shapes: Shapes, beside: Beside) -> Model:
    """Class token, learned positions, pre-norm blocks, linear head."""
    config = beside.config
    vit = hf.settings(shapes, config, prefix="vit.", num_prefix=1, eps=1e-12)
    vit["mlp_dim"] = shapes["vit.encoder.layer.0.intermediate.dense.weight"][0]
    outputs = shapes.get("classifier.weight", (0,))[0]
    return Model(
        vit=from_dict(ViTConfig, vit, where="config.json"),
        pool="cls",
        outputs=outputs,
        classes=hf.classes(config, beside, outputs) if outputs else (),
        preprocess=hf.preprocess(beside),
    )


def rules(model: Model) -> list[Rule]:
    return [
        *hf.embeddings("vit."),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "vit.encoder.layer.{i}.", BLOCK),
        *layer("head.output", "classifier"),
    ]


def lacks(model: Model) -> str | None:
    """What a ViTForImageClassification cannot be."""
    wanted = {
        "LayerScale": model.vit.block.layer_scale is not None,
        "SwiGLU": model.vit.block.mlp == "swiglu",
        "register tokens": bool(model.vit.registers),
        "distillation token": model.vit.distillation_token,
        f"{model.pool} pooling": model.pool not in (None, "cls"),
    }
    return hf.lacks(model) or next((name for name, there in wanted.items() if there), None)


def sidecars(model: Model) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    architecture = "ViTForImageClassification" if model.outputs else "ViTModel"
    return hf.sidecars(
        model, hf.config_json(model, "vit", architecture, intermediate_size=model.vit.mlp_dim)
    )
