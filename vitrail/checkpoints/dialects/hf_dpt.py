"""The ViT in Hugging Face's DPT (Ranftl et al. 2021): DPTModel, and the backbone of DPTForDepthEstimation and
DPTForSemanticSegmentation.

A ViT whose positions are resampled linearly. Neck and head of the dense tasks are left out.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, repeated
from vitrail.checkpoints.shapes import Shapes

LIBRARY = "huggingface"
TASKS = ("features",)
FILE = hf.FILE
LAST = True
PREFIX = "dpt."
IGNORED = ("*pooler.*", "neck.*", "head.*", "auxiliary_head.*")
FIRST = "encoder.layer.0.layernorm_before.weight"


def canonical(name: str) -> str:
    """Under the names of version 4; a bare DPTModel has no prefix."""
    return hf.mlp_from_5(hf.from_5(name))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the prefix of the backbone, else by the config alone: a bare model has a ViT's names."""
    return PREFIX + FIRST in names or (FIRST in names and beside.config.get("model_type") == "dpt")


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Class token, learned positions, pre-norm blocks."""
    config = hf.Config(beside.config)
    prefix = PREFIX if PREFIX + FIRST in shapes else ""
    vit = hf.settings(shapes, config, prefix=prefix, eps=1e-12, num_prefix=1)
    if any(name.startswith("neck.") for name in shapes):
        config.assumed.append("task: the backbone alone, for its features; the neck and head of DPT are left out")
    layout = [] if prefix else ["bare"]
    return hf.describe(vit | {"resampling": "bilinear"}, config, beside, pool="cls", layout=layout)


def rules(description: Description) -> list[Rule]:
    """In the layout ``bare``, which is written, names have no prefix."""
    model = pooled.read(description)
    prefix = "" if model.layout is None or "bare" in model.layout else PREFIX
    return [
        *hf.embeddings(prefix),
        *repeated(model.vit.depth, "vit.blocks.{i}.", prefix + "encoder.layer.{i}.", hf.BLOCK),
    ]


def lacks(description: Description) -> str | None:
    """What a DPTModel cannot be; a plain ViT whose positions are resampled in another way is none."""
    model = pooled.read(description)
    own = {
        "heads of a width other than dim / heads": model.vit.head_dim * model.vit.heads != model.vit.dim,
        "oblong images or patches": hf.oblong(model),
        f"resampling of positions by {model.vit.resampling}": model.vit.resampling != "bilinear",
    }
    return hf.lacks(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    return hf.sidecars(model, hf.config_json(model, "dpt", "DPTModel", intermediate_size=model.vit.mlp_dim))
