"""Hugging Face SigLIP's vision tower: SiglipVisionModel, SiglipModel, SiglipForImageClassification.

No class token. Features come from the attention pooling head; the classifier gets the mean of the patches instead.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import huggingface_towers as towers
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, rows, same, under
from vitrail.checkpoints.shapes import Shapes

LIBRARY = "huggingface"
TASKS = hf.TASKS
FILE = hf.FILE
HEAD = "classifier"
IGNORED = (*towers.TEXT, "vision_model.head.*")
POOL = [
    same("probe", "probe"),
    *(rows(f"q.{part}", f"attention.in_proj_{part}", 0, 1, of=3) for part in ("weight", "bias")),
    *(rows(f"kv.{part}", f"attention.in_proj_{part}", 1, 3, of=3) for part in ("weight", "bias")),
    *layer("out", "attention.out_proj"),
    *layer("norm", "layernorm"),
    *layer("mlp.fc1", "mlp.fc1"),
    *layer("mlp.fc2", "mlp.fc2"),
]
canonical = towers.canonical


def matches(names: Collection[str], beside: Beside) -> bool:
    """By a tower without class token; SigLIP 2 of variable aspect ratio has other patches and is none."""
    return (
        "vision_model.embeddings.patch_embedding.bias" in names
        and "vision_model.embeddings.position_embedding.weight" in names
        and "vision_model.embeddings.class_embedding" not in names
        and "vision_model.encoder.layers.0.self_attn.q_proj.weight" in names
        and beside.config.get("model_type", "siglip") in ("siglip", "siglip_vision_model")
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """No class token, tanh GELU; attention pooling unless a classifier takes its place."""
    config = hf.Config(towers.vision_config(beside.config))
    vit = towers.settings(shapes, config, act="gelu_pytorch_tanh", eps=1e-6, class_token=False)
    outputs = shapes.get("classifier.weight", (0,))[0]
    attends = not outputs and "vision_model.head.probe" in shapes
    if not outputs and not attends:
        config.assumed.append("pooling: the mean of the patches, because the file has no pooling head")
    return hf.describe(vit, config, beside, pool="attention" if attends else "mean", outputs=outputs)


def rules(description: Description) -> list[Rule]:
    model = pooled.read(description)
    return [*towers.rules(model), *under("pool.", "vision_model.head.", POOL)]


def lacks(description: Description) -> str | None:
    """What a SiglipVisionModel or SiglipForImageClassification cannot be."""
    model = pooled.read(description)
    own = {
        "model without class token": False,
        "model with class token": model.vit.class_token,
        f"{model.pool} pooling": model.pool not in ("mean", *(() if model.outputs else ("attention",))),
    }
    return towers.lacks(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    architecture = "SiglipForImageClassification" if model.outputs else "SiglipVisionModel"
    return towers.sidecars(model, "siglip", architecture, vision_use_head=model.pool == "attention")
