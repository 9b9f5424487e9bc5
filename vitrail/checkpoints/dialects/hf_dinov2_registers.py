"""Hugging Face DINOv2 with registers: Dinov2WithRegistersModel and …ForImageClassification (Darcet et al. 2024).

Unlike the models without registers, positions are resampled with antialiasing.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import hf_dinov2 as dinov2
from vitrail.checkpoints.rules import Rule
from vitrail.checkpoints.shapes import Shapes

LIBRARY = "huggingface"
TASKS = hf.TASKS
FILE = hf.FILE
HEAD = "classifier"
PREFIX = "dinov2_with_registers."
IGNORED = (f"{PREFIX}embeddings.mask_token",)


def canonical(name: str) -> str:
    """With the prefix that bare models leave out, under the names of version 4."""
    return hf.from_5(hf.prefixed(name, PREFIX, ("classifier.",)))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By LayerScale's name and the registers."""
    return (
        f"{PREFIX}encoder.layer.0.layer_scale1.lambda1" in names
        and f"{PREFIX}embeddings.register_tokens" in names
        and beside.config.get("model_type", "dinov2_with_registers") == "dinov2_with_registers"
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """As without registers, but for their number and the resampling."""
    registers = shapes[f"{PREFIX}embeddings.register_tokens"][-2]
    return dinov2.describe_as(PREFIX, shapes, beside, registers=registers, resampling="bicubic_antialias")


def rules(description: Description) -> list[Rule]:
    """With the mask token of pretraining, which every model has there."""
    model = pooled.read(description)
    table = dinov2.rules_as(PREFIX, model)
    if model.layout is not None:
        return table
    mask = f"{PREFIX}embeddings.mask_token"
    return [
        hf.with_spare(rule, mask, lambda value: torch.zeros_like(value[0])) if rule.ours == "vit.class_token" else rule
        for rule in table
    ]


def lacks(description: Description) -> str | None:
    """What a Dinov2WithRegistersModel cannot be."""
    model = pooled.read(description)
    own = {"register tokens": False, "model without registers": not model.vit.registers}
    return dinov2.lacks_as(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    architecture = "Dinov2WithRegistersForImageClassification" if model.outputs else "Dinov2WithRegistersModel"
    return dinov2.sidecars_as(model, "dinov2_with_registers", architecture, num_register_tokens=model.vit.registers)
