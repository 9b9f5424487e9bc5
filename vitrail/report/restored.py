"""Which pixels some of the restored pictures were made of, and where turned views of them differ."""

from __future__ import annotations

from typing import TYPE_CHECKING

from PIL import Image

from vitrail.explain import explain, methods_for
from vitrail.explain.overlay import overlay
from vitrail.report import pictures
from vitrail.report.figures.tiles import Tile
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.report.evaluated import EvaluatedModel

NUM_PICTURES, PART, STEPS = 2, 96, 12  # pictures, pixels of the part in their middle, and steps of the attribution
HEIGHT = 240  # pixels of a strip


def suits(evaluated: EvaluatedModel) -> bool:
    """Whether the model makes pictures, and some can be drawn."""
    return bool(len(evaluated.drawable)) and "lam" in methods_for(evaluated.predictor.task)


def strips(evaluated: EvaluatedModel) -> list[Tile]:
    """Of the pictures with the worst results: a part, what its middle was made of, and where views differ."""
    return [_strip(evaluated, row) for row in evaluated.drawable[:NUM_PICTURES].tolist()]


def _strip(evaluated: EvaluatedModel, row: int) -> Tile:
    predictor, index = evaluated.predictor, int(evaluated.evaluation.index[row])
    whole = predictor.read(evaluated.source.read(index))
    assert isinstance(whole, Image.Image), "it can be drawn"
    left, top = (max(0, (side - PART) // 2) for side in whole.size)
    part = whole.crop((left, top, min(left + PART, whole.width), min(top + PART, whole.height)))
    images, region = predictor.tensor(part), (0.0, 0.0, float(part.width), float(part.height))
    maps = [
        *explain(predictor.task, images, "lam", steps=STEPS),
        *explain(predictor.task, images, "disagreement"),
    ]
    panels = [part.convert("RGB"), *(overlay(part, each, region) for each in maps)]
    alt = say("{name} beside {maps}", name=evaluated.source.name(index), maps=", ".join(each.title for each in maps))
    return evaluated.captioned(row, pictures.beside(panels, HEIGHT), alt)
