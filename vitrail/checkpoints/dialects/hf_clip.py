"""Hugging Face CLIP's vision tower: CLIPVisionModel (also …WithProjection), CLIPModel, CLIPForImageClassification.

The classifier there gets the mean of the patches before the final norm; the final norm in its file is never used.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import huggingface_towers as towers
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, shaped
from vitrail.checkpoints.shapes import Shapes
from vitrail.nn.head import HeadConfig

LIBRARY = "huggingface"
TASKS = hf.TASKS
FILE = hf.FILE
HEAD = "classifier"
IGNORED = (*towers.TEXT, "vision_model.post_layernorm.*")
canonical = towers.canonical


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the norm before the blocks, whose name is misspelt there."""
    return (
        "vision_model.pre_layrnorm.weight" in names
        and "vision_model.embeddings.class_embedding" in names
        and "vision_model.encoder.layers.0.self_attn.q_proj.weight" in names
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Class token, a norm before the blocks, patches without bias; a projection, a classifier or neither."""
    config = hf.Config(towers.vision_config(beside.config))
    vit = towers.settings(shapes, config, act="quick_gelu", eps=1e-5, class_token=True)
    labels = "classifier.weight" in shapes
    head = "classifier.weight" if labels else "visual_projection.weight"
    outputs = shapes.get(head, (0,))[0]
    vit |= {"embed": {"kind": "patch", "bias": False}, "pre_norm": True, "final_norm": not labels}
    return hf.describe(
        vit,
        config,
        beside,
        pool="mean" if labels else "cls",
        outputs=outputs,
        labels=labels,
        head=HeadConfig(bias=labels or not outputs),
    )


def rules(description: Description) -> list[Rule]:
    model = pooled.read(description)
    before = layer("vit.pre_norm", "vision_model.pre_layrnorm")
    if not model.vit.final_norm and model.layout is None:
        spare = (torch.ones_like, torch.zeros_like)
        names = (f"vision_model.post_layernorm.{part}" for part in ("weight", "bias"))
        before = [hf.with_spare(*each) for each in zip(before, names, spare, strict=True)]
    return [
        *towers.rules(model),
        *before,
        shaped("vit.class_token", "vision_model.embeddings.class_embedding", -1),
    ]


def lacks(description: Description) -> str | None:
    """What a CLIPVisionModelWithProjection or CLIPForImageClassification cannot be."""
    model = pooled.read(description)
    vit, classifier = model.vit, bool(model.outputs) and model.labels
    own = {
        "patches without bias": False,
        "patches with bias": vit.patch_embed.bias,
        "norm before the blocks": False,
        "model without a norm before the blocks": not vit.pre_norm,
        "model without a final norm": not vit.final_norm and not classifier,
        "classifier after the final norm": classifier and vit.final_norm,
        f"{model.pool} pooling": model.pool != "mean" if classifier else model.pool != "cls",
        "head without bias": classifier and not model.head.bias,
        "projection of its features": False,
        "projection with bias": bool(model.outputs) and not model.labels and model.head.bias,
    }
    return towers.lacks(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    if not model.outputs:
        return towers.sidecars(model, "clip", "CLIPVisionModel")
    if model.labels:
        return towers.sidecars(model, "clip", "CLIPForImageClassification")
    return towers.sidecars(model, "clip", "CLIPVisionModelWithProjection", projection_dim=model.outputs)
