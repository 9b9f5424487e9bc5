"""Hugging Face I-JEPA (Assran et al. 2023): IJepaModel and IJepaForImageClassification.

A ViT without class token; the classifier gets the mean of the patches.
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
TASKS = pooled.TASKS
FILE = hf.FILE
LAST = True
PREFIX = "ijepa."
IGNORED = ("ijepa.pooler.*", "ijepa.embeddings.mask_token")


def canonical(name: str) -> str:
    """With the ``ijepa.`` that bare models leave out, under the names of version 4."""
    return hf.mlp_from_5(hf.from_5(hf.prefixed(name, PREFIX, ("classifier.",))))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By a ViT's names without a class token."""
    return (
        "ijepa.encoder.layer.0.layernorm_before.weight" in names
        and "ijepa.embeddings.position_embeddings" in names
        and "ijepa.embeddings.cls_token" not in names
        and beside.config.get("model_type", "ijepa") == "ijepa"
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Learned positions, pre-norm blocks, linear head."""
    config = hf.Config(beside.config)
    vit = hf.settings(shapes, config, prefix=PREFIX, eps=1e-12, num_prefix=0)
    outputs = shapes.get("classifier.weight", (0,))[0]
    return hf.describe(vit | {"class_token": False}, config, beside, pool="mean", outputs=outputs)


def rules(description: Description) -> list[Rule]:
    model = pooled.read(description)
    return [
        *hf.embeddings(PREFIX),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "ijepa.encoder.layer.{i}.", hf.BLOCK),
        *layer("head.output", "classifier"),
    ]


def lacks(description: Description) -> str | None:
    """What an IJepaForImageClassification cannot be."""
    model = pooled.read(description)
    own = {
        "model without class token": False,
        "class token": model.vit.class_token,
        f"{model.pool} pooling": model.pool != "mean",
        "heads of a width other than dim / heads": model.vit.head_dim * model.vit.heads != model.vit.dim,
        "oblong images or patches": hf.oblong(model),
    }
    return hf.lacks(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    architecture = "IJepaForImageClassification" if model.outputs else "IJepaModel"
    return hf.sidecars(model, hf.config_json(model, "ijepa", architecture, intermediate_size=model.vit.mlp_dim))
