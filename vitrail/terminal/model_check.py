"""What `vitrail data check --model` writes: of each kind of finding a picture sheet and a table."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitrail.errors import UserError
from vitrail.files import write_text

if TYPE_CHECKING:
    from vitrail.data.source import Splits
    from vitrail.probe.data_check import Look, Noticed
    from vitrail.report.figures.tiles import Tile

SHOWN = 24
COLUMNS = ("name", "split", "label", "score", "note", "like")


def write_look(found: Look, splits: Splits, folder: Path) -> list[str]:
    """Write ``<kind>.csv``, which ``--exclude`` takes, and ``<kind>.png``; returns a line a kind.

    Raises:
        UserError: such files are there already, or an image cannot be drawn.
    """
    lines = []
    for name, heading, noticed in found.items():
        if (folder / f"{name}.csv").exists():
            raise UserError(f"{folder / name}.csv is there already; name another folder with --out")
        write_text(folder / f"{name}.csv", _table(noticed, splits))
        where = f"{folder / name}.csv"
        if noticed:
            _sheet(noticed, splits, heading, folder / f"{name}.png")
            where += " and .png"
        lines.append(f"{heading}: {len(noticed):,} ({where})")
    return lines


def _table(noticed: Sequence[Noticed], splits: Splits) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(COLUMNS)
    for each in noticed:
        like = "" if each.like is None else splits.split(each.like[0]).name(each.like[1])
        writer.writerow([each.name, each.split, each.label, f"{each.score:.4f}", each.note, like])
    return text.getvalue()


def _sheet(noticed: Sequence[Noticed], splits: Splits, heading: str, path: Path) -> None:
    from vitrail.report import style
    from vitrail.report.figures.tiles import sheet

    tiles = [tile for each in noticed[:SHOWN] for tile in _tiles(each, splits)]
    pairs = any(each.like for each in noticed)
    path.parent.mkdir(parents=True, exist_ok=True)
    style.save_png(sheet(tiles, heading, 6 if pairs else 8), path)


def _tiles(each: Noticed, splits: Splits) -> list[Tile]:
    """The image, and beside it the one that it is like."""
    from vitrail.report import pictures
    from vitrail.report.figures.tiles import Tile

    places = [((each.split, each.index), each.label, each.note)]
    if each.like is not None:
        source = splits.split(each.like[0])
        label = source.target_kind.text(source.targets, each.like[1], source.classes)
        places.append((each.like, label, f"in {each.like[0]}"))
    found = []
    for (split, index), label, note in places:
        source = splits.split(split)
        image = pictures.sample(source, index, 1 if source.channels == 1 else 3)
        found.append(Tile(image, label, note, None, Path(source.name(index)).name))
    return found
