"""What a generative model draws, and what it drew while it learned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vitrail.generate import Generative
from vitrail.generator import Generator
from vitrail.predictions.pictures import contact_sheet
from vitrail.report.figures.tiles import Tile
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.report.evaluated import EvaluatedModel

EACH, MOST_CLASSES, MOST_EPOCHS = 8, 20, 12


def pictures(evaluated: EvaluatedModel) -> list[Tile]:
    """A strip of pictures of each class, or some without."""
    task = evaluated.predictor.task
    assert isinstance(task, Generative)
    generator = Generator(task, evaluated.predictor.preprocess.config, device=evaluated.predictor.device)
    labels: list[str | None] = list(generator.classes[:MOST_CLASSES]) or [None] * 4
    drawn = generator.draw([label for label in labels for _ in range(EACH)])
    strips = [drawn[first : first + EACH] for first in range(0, len(drawn), EACH)]
    return [Tile(contact_sheet([each.image for each in strip], EACH // 2), strip[0].label or "") for strip in strips]


def film(folder: Path) -> list[Tile]:
    """What it drew from the same noise after some of the evaluations, first and last included."""
    paths = sorted((folder / "samples").glob("epoch-*.png"))
    chosen = np.unique(np.linspace(0, len(paths) - 1, MOST_EPOCHS).round().astype(int)) if paths else ()
    tiles = []
    for number in chosen:
        with Image.open(paths[number]) as image:
            epoch = paths[number].stem.removeprefix("epoch-").lstrip("0")
            tiles.append(Tile(image.convert("RGB"), say("epoch {number}", number=epoch)))
    return tiles
