"""Hugging Face ViT: ViTForImageClassification, ViTModel, and the encoders of ViTMAE and masked-image ViT alone.

Names are those on disk (transformers 4; 5 writes them too). The pooler of a ViTModel is a random matrix: left out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, repeated
from vitrail.checkpoints.shapes import Shapes

LIBRARY = "huggingface"
TASKS = hf.TASKS
FILE = hf.FILE
HEAD = "classifier"
EPS = {"vit": 1e-12, "vit_mae": 1e-12, "vit_msn": 1e-6}  # the default of each config
IGNORED = ("vit.pooler.*", "vit.embeddings.mask_token")


def canonical(name: str) -> str:
    """With the ``vit.`` that bare models leave out, under the names of version 4."""
    return hf.mlp_from_5(hf.from_5(hf.prefixed(name, "vit.", ("classifier.", "decoder."))))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the names of the first block, without what DeiT, BEiT and YOLOS have beside."""
    return (
        "vit.encoder.layer.0.layernorm_before.weight" in names
        and {"vit.embeddings.position_embeddings", "vit.embeddings.cls_token"} <= set(names)
        and not {"vit.embeddings.distillation_token", "vit.embeddings.detection_tokens"}.intersection(names)
        and "vit.encoder.layer.0.lambda_1" not in names
        and not any(name.startswith("decoder.") for name in names)
        and beside.config.get("model_type", "vit") in list(EPS)
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Class token, learned positions, pre-norm blocks, linear head."""
    config = hf.Config(beside.config)
    eps = EPS[beside.config.get("model_type", "vit")]
    vit = hf.settings(shapes, config, prefix="vit.", eps=eps, num_prefix=1)
    outputs = shapes.get("classifier.weight", (0,))[0]
    return hf.describe(vit, config, beside, pool="cls", outputs=outputs)


def rules(description: Description) -> list[Rule]:
    model = pooled.read(description)
    return [
        *hf.embeddings("vit."),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "vit.encoder.layer.{i}.", hf.BLOCK),
        *layer("head.output", "classifier"),
    ]


def lacks(description: Description) -> str | None:
    """What a ViTForImageClassification cannot be."""
    model = pooled.read(description)
    return hf.lacks(model, {})


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    architecture = "ViTForImageClassification" if model.outputs else "ViTModel"
    return hf.sidecars(model, hf.config_json(model, "vit", architecture, intermediate_size=model.vit.mlp_dim))
