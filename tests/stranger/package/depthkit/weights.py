"""The dialect: weights of depthkit's own format, ``backbone.*`` and ``decoder.*`` beside a ``config.json``."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from depthkit.depth import Config, Task
from vitrail.checkpoints import tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.native import Json
from vitrail.checkpoints.rules import Rule, same
from vitrail.checkpoints.shapes import Shapes
from vitrail.config import from_dict, to_dict
from vitrail.data.transforms.processors import to_huggingface

LIBRARY = "depthkit"
TASKS = ("depthkit.depth",)
FILE = "model.safetensors"
IGNORED = ()


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    return beside.config.get("library") == LIBRARY


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Raises UserError: ``config.json`` describes no model."""
    config = from_dict(Config, beside.config["depth"], where="config.json")
    return Description("depthkit.depth", config, tensors_only.preprocess(beside))


def rules(description: Description) -> list[Rule]:
    with torch.device("meta"):
        names = Task(_config(description)).state_dict()
    return [same(name, _theirs(name)) for name in names]


def lacks(description: Description) -> str | None:
    return "register tokens" if _config(description).model.registers else None


def sidecars(description: Description) -> Mapping[str, Json]:
    files = {"config.json": {"library": LIBRARY, "depth": to_dict(description.config)}}
    if description.preprocess is not None:
        files["preprocessor_config.json"] = to_huggingface(description.preprocess)
    return files


def _theirs(name: str) -> str:
    return name.replace("vit.", "backbone.", 1) if name.startswith("vit.") else name.replace("head.", "decoder.", 1)


def _config(description: Description) -> Config:
    assert isinstance(description.config, Config)
    return description.config
