"""What a self-supervised method predicts for images that it was not trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from vitrail.data import keyed_random
from vitrail.data.batch import Batch
from vitrail.pretrain import Pretraining
from vitrail.report import pictures
from vitrail.report.figures.tiles import Tile

if TYPE_CHECKING:
    from PIL import Image

    from vitrail.report.evaluated import EvaluatedModel
    from vitrail.self_supervision.panels import Panel

NUM_STRIPS, HEIGHT = 8, 160  # pixels


def strips(evaluated: EvaluatedModel) -> tuple[str, list[Tile]]:
    """The panels' titles, and a strip of panels for each of some images."""
    predictor, index = evaluated.predictor, evaluated.evaluation.index
    task = predictor.task
    assert isinstance(task, Pretraining)
    some = index[np.random.default_rng(0).permutation(len(index))[:NUM_STRIPS]]
    images = torch.cat([predictor.tensor(evaluated.source.read(int(each))) for each in some])
    batch: Batch = {"images": images, "keys": torch.from_numpy(keyed_random.keys(0, "report", some).view(np.int64))}
    with torch.inference_mode():
        panels = task.show(batch)
    columns = [_pictures(panel, evaluated) for panel in panels]
    tiles = [Tile(pictures.beside(list(row), HEIGHT), "") for row in zip(*columns, strict=True)]
    return ", ".join(panel.title for panel in panels).capitalize(), tiles


def _pictures(panel: Panel, evaluated: EvaluatedModel) -> list[Image.Image]:
    if panel.normalised:
        return pictures.denormalised(panel.images, evaluated.predictor.preprocess.config)
    pixels = (panel.images.float().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
    return [pictures.from_planes(planes) for planes in pixels.numpy()]
