"""What a self-supervised method makes of pictures that it never saw."""

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

    from vitrail.report.measured import Measured
    from vitrail.self_supervision.panels import Panel

NUM_STRIPS, HEIGHT = 8, 160  # pixels


def strips(measured: Measured) -> tuple[str, list[Tile]]:
    """The panels' titles, and a strip of panels for each of some images."""
    predictor, index = measured.predictor, measured.evaluation.index
    task = predictor.task
    assert isinstance(task, Pretraining)
    some = index[np.random.default_rng(0).permutation(len(index))[:NUM_STRIPS]]
    images = torch.cat([predictor.tensor(measured.source.read(int(each))) for each in some])
    batch: Batch = {"images": images, "keys": torch.from_numpy(keyed_random.keys(0, "report", some).view(np.int64))}
    with torch.inference_mode():
        panels = task.show(batch)
    columns = [_pictures(panel, measured) for panel in panels]
    tiles = [Tile(pictures.beside(list(row), HEIGHT), "") for row in zip(*columns, strict=True)]
    return ", ".join(panel.title for panel in panels).capitalize(), tiles


def _pictures(panel: Panel, measured: Measured) -> list[Image.Image]:
    if panel.normalised:
        return pictures.denormalised(panel.images, measured.predictor.preprocess.config)
    pixels = (panel.images.float().cpu() * 255).round().clamp(0, 255).to(torch.uint8)
    return [pictures.from_planes(planes) for planes in pixels.numpy()]
