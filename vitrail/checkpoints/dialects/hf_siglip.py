"""Hugging Face SigLIP's vision tower: SiglipVisionModel, SiglipModel, SiglipForImageClassification.

No class token. Features come from the attention pooling head; the classifier gets the mean of the patches instead.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import huggingface_towers as towers
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, rows, same, under
from vitrail.checkpoints.shapes import Shapes
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.pooling import PoolKind
from vitrail.ops.positions import Resampling

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
PATCHES = "vision_model.embeddings.patch_embedding"
canonical = towers.canonical


def matches(names: Collection[str], beside: Beside) -> bool:
    """By a tower without class token; SigLIP 2 of variable aspect ratio has other patches and is none."""
    return is_tower(names) and beside.config.get("model_type", "siglip") in ("siglip", "siglip_vision_model")


def is_tower(names: Collection[str]) -> bool:
    """Has a file the names of SigLIP's tower?"""
    return (
        f"{PATCHES}.bias" in names
        and "vision_model.embeddings.position_embedding.weight" in names
        and "vision_model.embeddings.class_embedding" not in names
        and "vision_model.encoder.layers.0.self_attn.q_proj.weight" in names
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """No class token, tanh GELU; attention pooling unless a classifier takes its place.

    Raises:
        UserError: SigLIP 2 of variable aspect ratio without its config.
    """
    if len(shapes[f"{PATCHES}.weight"]) == 2:
        raise UserError("it is SigLIP 2 of variable aspect ratio, whose patch size its config.json says; put it here")
    config = hf.Config(towers.vision_config(beside.config))
    return describe_as(shapes, config, beside, hf.preprocess(beside), resampling="bicubic")


def describe_as(
    shapes: Shapes,
    config: hf.Config,
    beside: Beside,
    preprocess: PreprocessConfig | None,
    resampling: Resampling = "bilinear_antialias",
) -> Description:
    """The same of any config, preprocessing and resampling of positions."""
    vit = towers.settings(shapes, config, act="gelu_pytorch_tanh", eps=1e-6, class_token=False)
    outputs = shapes.get("classifier.weight", (0,))[0]
    attends = not outputs and "vision_model.head.probe" in shapes
    if not outputs and not attends:
        config.assumed.append("pooling: the mean of the patches, because the file has no pooling head")
    pool: PoolKind = "attention" if attends else "mean"
    vit["resampling"] = resampling
    return replace(hf.describe(vit, config, beside, pool=pool, outputs=outputs), preprocess=preprocess)


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
