"""Hugging Face DeiT: DeiTModel, DeiTForImageClassification (class token alone) and …WithTeacher (both tokens).

Every one of them has the distillation token; a DeiT without it is a ViT there.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, repeated, same
from vitrail.checkpoints.shapes import Shapes
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import PoolKind

LIBRARY = "huggingface"
TASKS = hf.TASKS
FILE = hf.FILE
HEAD = "classifier"
IGNORED = ("deit.pooler.*", "deit.embeddings.mask_token", "decoder.*")
HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.", "decoder.")


def canonical(name: str) -> str:
    """With the ``deit.`` that bare models leave out, under the names of version 4."""
    return hf.mlp_from_5(hf.from_5(hf.prefixed(name, "deit.", HEADS)))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the distillation token and the names of the first block."""
    return (
        "deit.embeddings.distillation_token" in names
        and "deit.encoder.layer.0.layernorm_before.weight" in names
        and beside.config.get("model_type", "deit") == "deit"
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """A ViT with a distillation token, and one head or two."""
    config = hf.Config(beside.config)
    vit = hf.settings(shapes, config, prefix="deit.", eps=1e-12, num_prefix=2)
    vit["distillation_token"] = True
    teacher = "distillation_classifier.weight" in shapes
    outputs = shapes.get("cls_classifier.weight" if teacher else "classifier.weight", (0,))[0]
    pool: PoolKind = "cls_distillation" if teacher else "cls"
    return hf.describe(vit, config, beside, pool=pool, outputs=outputs, head=HeadConfig(distilled=teacher))


def rules(description: Description) -> list[Rule]:
    model = pooled.read(description)
    return [
        *hf.embeddings("deit."),
        same("vit.distillation_token", "deit.embeddings.distillation_token"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "deit.encoder.layer.{i}.", hf.BLOCK),
        *layer("head.output", "cls_classifier" if model.head.distilled else "classifier"),
        *layer("head.distillation", "distillation_classifier"),
    ]


def lacks(description: Description) -> str | None:
    """What none of the DeiTs is."""
    model = pooled.read(description)
    return hf.lacks(
        model,
        {
            "distillation token": False,
            "model without distillation token": not model.vit.distillation_token,
            "cls_distillation pooling": False,
        },
    )


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    architecture = "DeiTForImageClassification" if model.outputs else "DeiTModel"
    if model.head.distilled:
        architecture += "WithTeacher"
    return hf.sidecars(model, hf.config_json(model, "deit", architecture, intermediate_size=model.vit.mlp_dim))
