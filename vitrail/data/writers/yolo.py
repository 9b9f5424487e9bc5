"""YOLO: ``data.yaml``, ``images/<split>/`` and ``labels/<split>/*.txt``, a box or an outline a line."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import yaml

from vitrail.data.annotations import Annotations
from vitrail.data.source import Source
from vitrail.data.storage import copies
from vitrail.data.storage.objects import annotations_of
from vitrail.data.storage.outlines import Outlines
from vitrail.ops import polygons

KINDS = ("masks", "boxes")
_NEAR = 1e-3


def write(splits: Mapping[str, Source], folder: Path) -> list[str]:
    """Write the splits into a folder; the returned lines say what the format cannot hold."""
    taken: set[str] = set()
    ignored = empty = looser = 0
    classes: tuple[str, ...] = ()
    for split, source in splits.items():
        classes = source.classes
        for index, name in copies.copy(source, folder / "images" / split, taken):
            found = annotations_of(source)
            lines = []
            masks = None if found.masks is None else found[index].masks
            for place, row in enumerate(found.objects(index)):
                if found.ignored[row]:
                    ignored += 1
                    continue
                height, width = found.sizes[found.rows[index]].tolist()
                numbers = _box(found.boxes_xyxy[row].astype(np.float64))
                if masks is not None and (found.outlined is None or found.outlined[row]):
                    ring = _ring(found, row, masks[place].numpy())
                    empty += not len(ring)
                    looser += len(ring) > 0 and not _is_tight(found.boxes_xyxy[row], ring)
                    numbers = ring.ravel()
                shares = numbers / np.resize((width, height), len(numbers))
                if len(shares):
                    lines.append(" ".join([str(int(found.labels[row])), *map(repr, shares.tolist())]))
            text = "".join(f"{line}\n" for line in lines)
            copies.write_text(folder / "labels" / split / f"{Path(name).stem}.txt", text)
    settings = {**{split: f"images/{split}" for split in splits}, "names": list(classes)}
    copies.write_text(folder / "data.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    lost = [f"{ignored:,} crowds and difficult objects, which YOLO cannot hold"] if ignored else []
    lost += [f"{empty:,} objects whose masks have no pixel"] if empty else []
    if looser:
        lost.append(f"the boxes of {looser:,} outlines, which are read again as the tightest around them")
    return [f"left out: {each}" for each in lost]


def _is_tight(box: np.ndarray, ring: np.ndarray) -> bool:
    """Whether a box is that of its outline, to a thousandth of a pixel."""
    return bool(np.abs(box - np.concatenate((ring.min(0), ring.max(0)))).max() < _NEAR)


def _box(box: np.ndarray) -> np.ndarray:
    """xyxy → centre and size."""
    return np.concatenate(((box[:2] + box[2:]) / 2, box[2:] - box[:2]))


def _ring(found: Annotations, row: int, mask: np.ndarray) -> np.ndarray:
    """One outline (n, 2) that encloses the mask's pixels: the object's own where it has a single one."""
    shape = found.masks.shape(row) if isinstance(found.masks, Outlines) else None
    if isinstance(shape, list) and len(shape) == 1:
        return np.asarray(shape[0], np.float64).reshape(-1, 2)
    rings = polygons.outline(mask)
    return polygons.join(rings) if rings else np.empty((0, 2))
