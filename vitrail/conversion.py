"""Weights of every library: what they are, and from one library's terms into another's.

::

    vitrail.inspect("vit.safetensors")["dialect"]
    vitrail.convert("runs/birds", "birds-hf", to="huggingface")
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from vitrail.checkpoints import foreign
from vitrail.checkpoints.model import Model
from vitrail.config import to_dict
from vitrail.console import note
from vitrail.errors import UserError
from vitrail.ops.patches import Pair
from vitrail.outline import NATIVE, as_model, is_shared, outline, resize
from vitrail.predictor import load
from vitrail.presets import count


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: str,
    image_size: int | Pair | None = None,
    patch_size: int | Pair | None = None,
    allow_pickle: bool = False,
) -> Path:
    """Write the model of ``source`` as another library (or Vitrail itself, ``native``) reads it.

    Args:
        source: what :func:`vitrail.load` takes.
        out: a file with the suffix of the format, or a new folder, which gets config, preprocessing and labels too.
        to: a library or one of its dialects, or ``native``.
        image_size: another native size, in pixels; positions are resampled by the rule of the source.

    Raises:
        UserError: the source cannot be read, or the target cannot express the model; what it lacks is named.
    """
    model = load(source, image_size=image_size, patch_size=patch_size, device="cpu", allow_pickle=allow_pickle)
    if to == NATIVE:
        out = Path(out) if Path(out).suffix else Path(out) / "model.safetensors"
        model.save(out)
        return out
    described, state = as_model(model.task, model.preprocess.config), model.task.state_dict()
    try:
        dialect = foreign.dialect_for(to, described)
    except UserError:
        if not described.task:
            raise
        described = dataclasses.replace(described, task="", options={})
        dialect = foreign.dialect_for(to, described)
        state = {f"vit.{name}": value for name, value in model.task.backbone.state_dict().items()}
        note(f"all but the encoder of {model.task.name} is left out: {to} has no place for it")
    if dialect != to:
        note(f"dialect: {dialect}")
    return foreign.save(dialect, out, described, state)


def inspect(
    path: str | Path,
    *,
    image_size: int | Pair | None = None,
    patch_size: int | Pair | None = None,
    allow_pickle: bool = False,
) -> dict[str, Any]:
    """What a weights file is, as plain JSON types; no tensor is read.

    Args:
        path: what :func:`vitrail.load` takes.
        image_size: list what this size would adapt.

    Raises:
        UserError: as :func:`vitrail.load`.
    """
    found = outline(path, allow_pickle=allow_pickle)
    task, before = found.task, found.task.vit.config
    adapted = list(found.assumed)
    resize(task, image_size, patch_size)
    after = task.vit.config
    adapted += [
        f"{what}: {_times(old)} → {_times(new)}, resampled ({after.resampling})"
        for what in ("image_size", "patch_size")
        if (old := getattr(before, what)) != (new := getattr(after, what))
    ]
    return {
        "file": str(found.file),
        "dialect": found.dialect,
        "task": task.name,
        "parameters": sum(parameter.numel() for parameter in task.parameters()),
        "macs": count(after).macs,
        "classes": list(task.names),
        "config": to_dict(task.config),
        "preprocess": to_dict(found.preprocess),
        "adapted": adapted,
        "writes_as": _fits(as_model(task, found.preprocess)) if is_shared(task) else {},
    }


def _fits(model: Model) -> dict[str, str]:
    """For every library the dialect that can hold the model, or why none can."""
    fits = {}
    for library in foreign.libraries():
        try:
            fits[library] = foreign.dialect_for(library, model)
        except UserError as error:
            fits[library] = str(error)
    return fits


def _times(size: Pair) -> str:
    return "×".join(map(str, size))
