"""Hugging Face SigLIP's vision tower: SiglipVisionModel, SiglipModel, SiglipForImageClassification.

No class token. Features come from the attention pooling head; the classifier sees the mean of the patches instead.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints.dialects import _huggingface as hf
from vitrail.checkpoints.dialects import _huggingface_towers as towers
from vitrail.checkpoints.model import Beside, Model, Shapes
from vitrail.checkpoints.rules import Rule, layer, rows, same, under
from vitrail.config import from_dict
from vitrail.vit import ViTConfig

LIBRARY = "huggingface"
FILE = hf.FILE
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


def describe(shapes: Shapes, beside: Beside) -> Model:
    """No class token, tanh GELU; attention pooling unless a classifier takes its place."""
    config = hf.Config(towers.vision_config(beside.config))
    vit = towers.settings(shapes, config, act="gelu_pytorch_tanh", eps=1e-6, class_token=False)
    outputs = shapes.get("classifier.weight", (0,))[0]
    attends = not outputs and "vision_model.head.probe" in shapes
    if not outputs and not attends:
        config.assumed.append("pooling: the mean of the patches, because the file has no pooling head")
    return Model(
        vit=from_dict(ViTConfig, vit, where="config.json"),
        pool="attention" if attends else "mean",
        outputs=outputs,
        classes=hf.classes(beside.config, beside, outputs),
        preprocess=hf.preprocess(beside),
        assumed=tuple(config.assumed),
    )


def rules(model: Model) -> list[Rule]:
    return [*towers.rules(model), *under("pool.", "vision_model.head.", POOL)]


def lacks(model: Model) -> str | None:
    """What a SiglipVisionModel or SiglipForImageClassification cannot be."""
    own = {
        "model without class token": False,
        "model with class token": model.vit.class_token,
        f"{model.pool} pooling": model.pool not in ("mean", *(() if model.outputs else ("attention",))),
    }
    return towers.lacks(model, own)


def sidecars(model: Model) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    architecture = "SiglipForImageClassification" if model.outputs else "SiglipVisionModel"
    return towers.sidecars(model, "siglip", architecture, vision_use_head=model.pool == "attention")
