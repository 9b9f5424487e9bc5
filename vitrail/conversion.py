"""Inspect weights of every library, and convert them from one library's format into another's.

::

    vitrail.inspect("vit.safetensors")["dialect"]
    vitrail.convert("runs/birds", "birds-hf", to="huggingface")
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign, native, pooled
from vitrail.checkpoints.containers import open_tensors
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.locate import find_weights
from vitrail.checkpoints.naming import drafted, table
from vitrail.config import to_dict
from vitrail.console import note
from vitrail.errors import UserError
from vitrail.loading import load
from vitrail.ops.grid import Pair
from vitrail.pretrain import Pretraining
from vitrail.sizes import resize
from vitrail.trainable import image_encoder
from vitrail.vit_costs import count


def convert(
    source: str | Path,
    out: str | Path,
    *,
    to: str,
    image_size: int | Pair | None = None,
    patch_size: int | Pair | None = None,
    allow_pickle: bool = False,
    names: str | Path | None = None,
) -> Path:
    """Write the model of ``source`` as another library (or Vitrail itself, ``native``) reads it.

    Args:
        source: what :func:`vitrail.load` takes.
        out: a file with the suffix of the format, or a new folder, which gets config, preprocessing and labels too.
        to: a library or one of its dialects, the module of a third party's dialect, the file of a table of names, or
            ``native``.
        image_size: another native size, in pixels; positions are resampled by the rule of the source.
        allow_pickle, names: as of :func:`vitrail.load`.

    Raises:
        UserError: the source cannot be read, or the target cannot express the model; what it lacks is named.
    """
    options: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size, "names": names}
    model = load(source, device="cpu", allow_pickle=allow_pickle, **options)
    if to == native.NAME:
        out = Path(out) if Path(out).suffix else Path(out) / "model.safetensors"
        model.save(out)
        return out
    task, preprocess = model.task, model.preprocess.config
    if preprocess.tiles is not None:
        note(f"tiles are left out: files of {to} cannot say that the model sees pictures tile by tile")
    if task.one_view() is not task:
        note(f"one view is enough for files of {to}: they cannot say that mirror images are averaged")
        task = task.one_view()
    described = Description.of(task, preprocess)
    description, state = pooled.in_units(described, task.state_dict())
    if description is not described:
        note("numbers are written in their own unit: mean and deviation are part of the head")
    try:
        dialect = foreign.dialect_for(to, description)
    except UserError:
        if not isinstance(task, Pretraining):
            raise
        vit = image_encoder(task)
        description = pooled.describe_encoder(vit.config, preprocess)
        dialect = foreign.dialect_for(to, description)
        state = {f"vit.{name}": value for name, value in vit.state_dict().items()}
        note(f"all but the encoder of {task.name} is left out: {to} has no place for it")
    if dialect != to:
        note(f"dialect: {dialect}")
    return foreign.save(dialect, out, description, state)


def inspect(
    path: str | Path,
    *,
    image_size: int | Pair | None = None,
    patch_size: int | Pair | None = None,
    allow_pickle: bool = False,
    names: str | Path | None = None,
) -> dict[str, Any]:
    """What a weights file is, as plain JSON types; no tensor is read.

    Args:
        path: what :func:`vitrail.load` takes.
        image_size: list what this size would adapt.
        allow_pickle, names: as of :func:`vitrail.load`.

    Raises:
        UserError: as :func:`vitrail.load`.
    """
    found = open_checkpoint(path, allow_pickle=allow_pickle, names=None if names is None else str(names))
    task, vit = found.task, image_encoder(found.task)
    before = vit.config
    adapted = list(found.assumed)
    resize(task, image_size, patch_size)
    after = vit.config
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
        "classes": list(vars(task.config).get("classes", ())),
        "config": to_dict(task.config),
        "preprocess": to_dict(found.preprocess),
        "adapted": adapted,
        "writes_as": _fits(pooled.in_units(Description.of(task, found.preprocess))[0])
        if foreign.holds(task.name)
        else {},
    }


def draft_names(path: str | Path, *, allow_pickle: bool = False) -> str:
    """A table of names (YAML) for weights of no known library, from names and shapes; comments say what was guessed.

    Args:
        path: what :func:`vitrail.load` takes.
        allow_pickle: accept files of torch.save.

    Raises:
        UserError: the file cannot be read, or is of no ViT whose parts its shapes tell.
    """
    file = find_weights(path, allow_pickle=allow_pickle)
    with open_tensors(file, allow_pickle=allow_pickle) as tensors:
        return table.to_yaml(*drafted.table(tensors))


def _fits(description: Description) -> dict[str, str]:
    """For every library the dialect that can hold the model, or why none can."""
    fits = {}
    for library in foreign.libraries():
        try:
            fits[library] = foreign.dialect_for(library, description)
        except UserError as error:
            fits[library] = str(error)
    return fits


def _times(size: Pair) -> str:
    return "×".join(map(str, size))
