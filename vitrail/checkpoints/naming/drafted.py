"""Drafts as descriptions and as files: what dialects of free names and ``vitrail inspect --draft-names`` share."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

from vitrail.checkpoints import extras, pooled, tensors_only, wrappers
from vitrail.checkpoints.beside import Beside, read_beside
from vitrail.checkpoints.containers import Tensors
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.naming.draft import Draft, draft
from vitrail.checkpoints.naming.places import Place
from vitrail.checkpoints.shapes import Shapes, vit_config
from vitrail.config import from_dict, to_dict
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig

HINT = "put it into config.json next to the file if it differs"


def describe(shapes: Shapes, beside: Beside) -> Description:
    """The description of a file whose names are free; its layout holds the places of the tensors.

    Raises:
        UserError: tensors that have no counterpart, or a model whose parts their shapes do not tell.
    """
    made = draft(shapes, beside.config)
    if made.unplaced:
        raise UserError(
            f"it also holds {extras.shown(made.unplaced)}, which no ViT here has; draft a table with "
            "`vitrail inspect FILE --draft-names`, and name what the model does not need as ignored"
        )
    assumed = [f"{line}; {HINT}" for line in made.undecided]
    layout = [*(f"{ours}={json.dumps(place.written())}" for ours, place in made.places.items())]
    return _description(made, beside, assumed, layout)


def places(layout: Iterable[str]) -> dict[str, Place]:
    """What :func:`describe` put into a layout."""
    pairs = (each.partition("=") for each in layout)
    return {ours: Place.read(json.loads(written)) for ours, _, written in pairs}


def table(tensors: Tensors) -> tuple[dict[str, Any], list[str]]:
    """The content of a table for an open file, and what was guessed or is still to be done.

    Raises:
        UserError: the tensors are of no ViT whose parts their shapes tell.
    """
    beside = read_beside(tensors.path, tensors.metadata)
    shapes, ignored = {}, []
    for name, old in wrappers.without_inner(tensors.entries).items():
        entry = tensors.entries[old]
        if extras.is_beside(name, entry):
            ignored.append(name)
        else:
            shapes[name] = entry.shape
    try:
        made = draft(shapes, beside.config, ignored)
    except UserError as error:
        raise UserError(f"{tensors.path}: {error}") from None
    description = _description(made, beside, (), ())
    content = {
        "task": description.task,
        "config": _settings(made, description.config),
        "tensors": {ours: place.written() for ours, place in made.places.items()},
        "ignored": [*made.ignored, *made.unplaced],
    }
    open_ends = [f"not decided: {line}" for line in made.undecided]
    if made.unplaced:
        open_ends.append(f"not placed, so ignored: {extras.shown(made.unplaced)}; is the model complete without them?")
    return content, open_ends


def _description(made: Draft, beside: Beside, assumed: Sequence[str], layout: Iterable[str]) -> Description:
    return pooled.describe(
        vit_config(made.vit),
        pool=made.pool,  # type: ignore[arg-type]
        head=from_dict(HeadConfig, made.head),
        outputs=made.outputs,
        classes=beside.classes if made.outputs else (),
        preprocess=tensors_only.preprocess(beside),
        assumed=assumed,
        layout=layout,
    )


def _settings(made: Draft, config: object) -> dict[str, Any]:
    """The config as plain types: the settings that the draft made, without those that only training reads."""
    found = to_dict(config)
    found["model"] = {
        key: {inner: found["model"][key][inner] for inner in made.vit[key]}
        if isinstance(made.vit[key], dict)
        else value
        for key, value in found["model"].items()
        if key in made.vit
    }
    found["head"] = {key: found["head"][key] for key in made.head}
    return {name: found[name] for name in ("model", "pool", "head", "classes", "projection") if name in found}
