"""``vitrail data convert``: scenes from any source, in the files of another format."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import cast

import numpy as np

from vitrail import console, files, registry
from vitrail.data import targets
from vitrail.data.inspection.adapting import adapted, tell
from vitrail.data.source import SourceConfig, Splits, open_source
from vitrail.data.writers import WriterModule
from vitrail.errors import UserError


def open_to_write(config: SourceConfig, to: str) -> Splits:
    """The data with targets that a format holds: as it has them, read as another kind, or made such.

    Args:
        config: with a ``kind``, that one is read, or made where the data has another.
        to: as of :func:`convert`.

    Raises:
        UserError: as :func:`vitrail.data.source.open_source`.
    """
    held = _writer(to).KINDS if config.kind == "auto" else (config.kind,)
    try:
        splits = open_source(config)
    except UserError as error:
        if config.kind == "auto":
            raise
        splits = adapted(open_source(dataclasses.replace(config, kind="auto")), held)
        if splits.kind != config.kind:
            raise error from None
    if splits.kind in held:
        return splits
    for other in held:
        try:
            found = open_source(dataclasses.replace(config, kind=other))
        except UserError:
            continue
        if found.kind == other:
            tell(splits.kind, other)
            return found
    return adapted(splits, held)


def convert(splits: Splits, folder: Path, to: str) -> dict[str, int]:
    """Write all splits into a new folder, which appears when it is complete; images are copied.

    What the format cannot hold of the targets is said in a line, and left out; what would be read again as anything
    else is refused.

    Args:
        to: a name of ``vitrail.data.writers``: coco, coco_panoptic, voc, yolo, masks, csv.

    Returns:
        Images of each split.

    Raises:
        UserError: the folder exists, the format does not hold such targets, or an image cannot be read.
    """
    writer = _writer(to)
    if splits.kind not in writer.KINDS:
        raise _not_held(splits, writer, to)
    if folder.exists():
        raise UserError(f"{folder} exists; name a new folder")
    sources = dict(splits.items())
    with files.replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        for line in writer.write(sources, temporary):
            console.warn(line)
        if "." not in to:  # a third party's may be read by no source
            _check_again(splits, temporary, to)
    return {split: len(source) for split, source in sources.items()}


def _writer(to: str) -> WriterModule:
    return cast("WriterModule", registry.load("data.writers", to))


def _check_again(splits: Splits, folder: Path, to: str) -> None:
    """Read what was written, as somebody would who knows nothing of it.

    Raises:
        UserError: it is something else.
    """
    try:
        again = _read(folder, splits.kind)
        as_found = again if splits.target_kind.spatial else _read(folder, "auto")
    except UserError as error:
        raise UserError(f"{to} cannot hold these targets, since what is written is refused: {error}") from None
    if fault := _difference(splits, again):
        raise UserError(f"{to} cannot hold these targets, which would be read again with {fault}")
    if as_found.kind != splits.kind:
        console.warn(f"{to}: labels like these are read as {as_found.kind} unless kind={splits.kind} is given")


def _read(folder: Path, kind: str) -> Splits:
    with console.without_notes():
        return open_source(SourceConfig(spec=str(folder), kind=kind, val_fraction=0))


def _difference(splits: Splits, again: Splits) -> str | None:
    """What differs but for the images and the places of objects."""
    if again.classes != splits.classes:
        return f"the classes {again.classes[:5]}, not {splits.classes[:5]}"
    sizes, own = ({split: len(source) for split, source in each.items()} for each in (again, splits))
    if sizes != own:
        return f"the images {sizes}, not {own}"
    for split, source in splits.items() if not splits.target_kind.spatial else ():
        if not np.array_equal(np.asarray(source.targets), np.asarray(again.split(split).targets)):
            return f"other labels of {split}"
    return None


def _not_held(splits: Splits, writer: WriterModule, to: str) -> UserError:
    """What would be lost, and which formats hold it."""
    others = [name for name in registry.names("data.writers") if splits.kind in _writer(name).KINDS]
    advice = f"write {' or '.join(others)}" if others else "no format holds them, so give other data"
    if splits.target_kind.spatial:
        kinds = [kind for kind in writer.KINDS if targets.load(kind).spatial]
        advice += f", or read it with {' or '.join(f'kind={kind}' for kind in kinds)}" if kinds else ""
    return UserError(
        f"{to} holds {' or '.join(sorted(writer.KINDS))}, and the data has {splits.kind}, which would be lost "
        f"({splits.target_kind.wording}); {advice}"
    )
