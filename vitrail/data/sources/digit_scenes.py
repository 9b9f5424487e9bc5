"""Scenes of one to five real handwritten digits on a noisy canvas of 64 × 64, for every task: no download.

The digits are scikit-learn's (the source ``digits``), enlarged to 14 … 28 pixels; the 2,000 training scenes are made of
its training images and the 400 test scenes of its test images, the same on every machine. No digit is covered by more
than a tenth. Strokes of no meaning and noise lie between them. ``kind=masks`` (the default) or ``boxes`` gives each
visible part of a digit; ``kind=semantic`` a map of background and the ten digits.
"""

from __future__ import annotations

import functools
import os
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from vitrail.data import keyed_random
from vitrail.data.annotations import Annotations
from vitrail.data.source import Source, SourceConfig
from vitrail.data.sources import digits
from vitrail.data.storage.arrays import Arrays
from vitrail.data.storage.maps import NumberedMasks
from vitrail.data.storage.objects import offers
from vitrail.data.targets import Labels

SIDE = 64
CLASSES = tuple("0123456789")
NUM_SCENES = {"train": 2000, "test": 400}
MOST, SMALLEST, LARGEST = 5, 14, 28
COVERED = 0.1  # the largest share of a digit's pixels under another one
INK = 80  # grey level from which a pixel is the digit's
TRIES = 12

Grey = NDArray[np.uint8]


def matches(spec: str) -> bool:
    return False  # by name only


def load(config: SourceConfig) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    for split in NUM_SCENES:
        scenes = _scenes(split)
        images = Arrays(
            images=np.stack([scene.image for scene in scenes]),
            label=f"digit_scenes{os.sep}{split}",
            channels=1,
            targets=np.empty(0, np.float32),
            kind="none",
            classes=(),
        )
        offered = offers(_objects(scenes), CLASSES) | {"semantic": _maps(scenes)}
        sources[split] = images.labelled(offered[config.choose(offered)])
    return sources


class _Scene(NamedTuple):
    image: Grey
    """(H, W)."""
    numbers: Grey
    """(H, W): 0, or from 1 on which digit."""
    labels: NDArray[np.int64]


@functools.cache
def _scenes(split: str) -> tuple[_Scene, ...]:
    single = digits.load(SourceConfig(spec="digits"))[split]
    glyphs = np.stack([np.asarray(single.read(i)) for i in range(len(single))])
    labels = np.asarray(single.targets)
    keys = keyed_random.keys(0, f"digit scenes {split}", np.arange(NUM_SCENES[split]))
    return tuple(_scene(key, glyphs, labels) for key in keys)


def _scene(key: np.uint64, glyphs: Grey, labels: NDArray[np.int64]) -> _Scene:
    """Digits one after the other, each at the first of a few random places where it covers little."""
    own = np.array([key], np.uint64)
    canvas = _clutter(own)
    numbers = np.zeros((SIDE, SIDE), np.uint8)
    chosen: list[int] = []
    for slot in range(1 + int(keyed_random.uniform(own, "count", 1)[0, 0] * MOST)):
        which, size, strength = keyed_random.uniform(own, f"digit {slot}", 3)[0]
        index, side = int(which * len(glyphs)), SMALLEST + int(size * (LARGEST - SMALLEST + 1))
        glyph = np.asarray(Image.fromarray(glyphs[index]).resize((side, side), Image.Resampling.BICUBIC))
        ink = glyph >= INK
        places = keyed_random.uniform(own, f"place {slot}", 2 * TRIES).reshape(-1, 2) * (SIDE - side + 1)
        for top, left in places.astype(int):
            window = (slice(top, top + side), slice(left, left + side))
            if _covers_little(numbers, window, ink):
                chosen.append(index)
                numbers[window][ink] = len(chosen)
                level = (glyph * (0.6 + 0.4 * strength)).astype(np.uint8)
                canvas[window] = np.maximum(canvas[window], level)
                break
    noise = keyed_random.uniform(own, "noise", SIDE * SIDE).reshape(SIDE, SIDE) * 48 - 24
    return _Scene(np.clip(canvas + noise, 0, 255).astype(np.uint8), numbers, labels[chosen])


def _covers_little(numbers: Grey, window: tuple[slice, slice], ink: NDArray[np.bool_]) -> bool:
    """Would each digit that is there stay in view, and is the new one not mixed with it?"""
    covered = np.bincount(numbers[window][ink], minlength=MOST + 1)[1:]
    if not covered.any():
        return True
    whole = np.bincount(numbers.ravel(), minlength=MOST + 1)[1:]
    return bool((covered <= COVERED * whole).all() and covered.sum() <= COVERED * ink.sum())


def _clutter(own: NDArray[np.uint64]) -> Grey:
    """A dim ground with a few short strokes."""
    level, *ends = keyed_random.uniform(own, "clutter", 1 + 4 * 6)[0]
    ground = Image.new("L", (SIDE, SIDE), 16 + int(level * 32))
    pen = ImageDraw.Draw(ground)
    for x, y, across, down in np.reshape(ends, (-1, 4)):
        start = np.array([x, y]) * SIDE
        end = start + (np.array([across, down]) - 0.5) * SIDE / 4
        pen.line([*start.round().tolist(), *end.round().tolist()], fill=60 + int(x * 40))
    return np.array(ground)


def _objects(scenes: tuple[_Scene, ...]) -> Annotations:
    numbers = np.stack([scene.numbers for scene in scenes])
    counts = [len(scene.labels) for scene in scenes]
    boxes = [_box(scene.numbers == i + 1) for scene in scenes for i in range(len(scene.labels))]
    return Annotations(
        boxes_xyxy=np.array(boxes, np.float32).reshape(-1, 4),
        labels=np.concatenate([scene.labels for scene in scenes]),
        crowd=np.zeros(len(boxes), bool),
        offsets=np.concatenate(([0], np.cumsum(counts))),
        sizes=np.full((len(scenes), 2), SIDE, np.int32),
        image_ids=np.arange(len(scenes)),
        category_ids=np.arange(1, 11),
        rows=np.arange(len(scenes)),
        masks=NumberedMasks(numbers),
    )


def _maps(scenes: tuple[_Scene, ...]) -> Labels:
    maps = np.stack([np.concatenate(([0], scene.labels + 1))[scene.numbers] for scene in scenes])
    return Labels("semantic", ("background", *CLASSES), maps.astype(np.uint8))


def _box(mask: NDArray[np.bool_]) -> tuple[int, int, int, int]:
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
