"""``vitrail data convert``: scenes from any source, in the files of another format."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from vitrail import console, files, registry
from vitrail.data.source import Splits
from vitrail.data.writers import WriterModule
from vitrail.errors import UserError


def convert(splits: Splits, folder: Path, to: str) -> dict[str, int]:
    """Write all splits into a new folder, which appears when it is complete; images are copied.

    Args:
        to: a name of ``vitrail.data.writers``: coco, coco_panoptic, voc, yolo, masks, csv.

    Returns:
        Images of each split.

    Raises:
        UserError: the folder exists, the format does not hold such targets, or an image cannot be read.
    """
    writer = cast("WriterModule", registry.load("data.writers", to))
    if splits.kind not in writer.KINDS:
        wanted = " or ".join(f"kind={kind}" for kind in writer.KINDS)
        raise UserError(
            f"{to} holds {' or '.join(writer.KINDS)}, and the data has {splits.kind}; read it with {wanted}"
        )
    if folder.exists():
        raise UserError(f"{folder} exists; name a new folder")
    sources = dict(splits.items())
    with files.replacing(folder) as temporary:
        temporary.mkdir(parents=True)
        for line in writer.write(sources, temporary):
            console.warn(line)
    return {split: len(source) for split, source in sources.items()}
