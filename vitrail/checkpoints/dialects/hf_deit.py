"""Hugging Face DeiT: DeiTModel, DeiTForImageClassification (class token alone) and …WithTeacher (both tokens).

Every one of them has the distillation token; a DeiT without it is a ViT there.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints.dialects import _huggingface as hf
from vitrail.checkpoints.model import Beside, Model, Shapes
from vitrail.checkpoints.rules import Rule, layer, repeated, same
from vitrail.config import from_dict
from vitrail.nn.head import HeadConfig
from vitrail.vit import ViTConfig

LIBRARY = "huggingface"
FILE = hf.FILE
IGNORED = ("deit.pooler.*", "deit.embeddings.mask_token", "decoder.*")
HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.", "decoder.")


def canonical(name: str) -> str:
    """With the ``deit.`` that bare models leave out, in version 4's words."""
    return hf.mlp_from_5(hf.from_5(hf.prefixed(name, "deit.", HEADS)))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the distillation token and the names of the first block."""
    return (
        "deit.embeddings.distillation_token" in names
        and "deit.encoder.layer.0.layernorm_before.weight" in names
        and beside.config.get("model_type", "deit") == "deit"
    )


def describe(shapes: Shapes, beside: Beside) -> Model:
    """A ViT with a distillation token, and one head or two."""
    config = hf.Config(beside.config)
    vit = hf.settings(shapes, config, prefix="deit.", eps=1e-12, num_prefix=2)
    vit["mlp_dim"] = shapes["deit.encoder.layer.0.intermediate.dense.weight"][0]
    vit["distillation_token"] = True
    teacher = "distillation_classifier.weight" in shapes
    outputs = shapes.get("cls_classifier.weight" if teacher else "classifier.weight", (0,))[0]
    return Model(
        vit=from_dict(ViTConfig, vit, where="config.json"),
        pool="cls_distillation" if teacher else "cls",
        head=HeadConfig(distilled=teacher),
        outputs=outputs,
        classes=hf.classes(beside.config, beside, outputs),
        preprocess=hf.preprocess(beside),
        assumed=tuple(config.assumed),
    )


def rules(model: Model) -> list[Rule]:
    return [
        *hf.embeddings("deit."),
        same("vit.distillation_token", "deit.embeddings.distillation_token"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "deit.encoder.layer.{i}.", hf.BLOCK),
        *layer("head.output", "cls_classifier" if model.head.distilled else "classifier"),
        *layer("head.distillation", "distillation_classifier"),
    ]


def lacks(model: Model) -> str | None:
    """What none of the DeiTs is."""
    return hf.lacks(
        model,
        {
            "distillation token": False,
            "model without distillation token": not model.vit.distillation_token,
            "cls_distillation pooling": False,
        },
    )


def sidecars(model: Model) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    architecture = "DeiTForImageClassification" if model.outputs else "DeiTModel"
    if model.head.distilled:
        architecture += "WithTeacher"
    return hf.sidecars(model, hf.config_json(model, "deit", architecture, intermediate_size=model.vit.mlp_dim))
