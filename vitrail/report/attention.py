"""Where the model looks on some of the measured images, and what its layers learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from vitrail.explain import explain, vit_figures
from vitrail.explain.overlay import outline, overlay
from vitrail.report import pictures, style
from vitrail.report.figures.tiles import Tile

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrail.report.measured import Measured

NUM_RIGHT, NUM_WRONG = 4, 2
NUM_FOR_DISTANCE, BATCH = 16, 4  # attention matrices of many images at once would not fit into memory
HEIGHT = 200  # pixels of a strip


def strips(measured: Measured) -> list[Tile]:
    """Some images beside their heat maps, one strip an image: first the right ones, then the worst mistakes."""
    rows = measured.examples(NUM_RIGHT) + measured.mistakes(NUM_WRONG)
    return [strip(measured, row) for row in rows or measured.worst_first[-NUM_RIGHT:].tolist()]


def strip(measured: Measured, row: int) -> Tile:
    """The image, what reached the output of it (rollout), and what spoke for it (Grad-CAM)."""
    predictor = measured.predictor
    stored = measured.source.read(int(measured.evaluation.index[row]))
    picture, images = predictor.read(stored), predictor.tensor(stored)
    if not isinstance(picture, Image.Image):  # of many channels, the first three
        picture = Image.fromarray(picture[:3].permute(1, 2, 0).numpy() if len(picture) >= 3 else picture[0].numpy())
    region = predictor.preprocess.region((picture.height, picture.width))
    heats = [explain(predictor.task, images, method)[0] for method in methods(measured)]
    panels = [outline(picture, region), *(overlay(picture, heat, region) for heat in heats)]
    caption = measured.family.caption(measured.evaluation, row)
    return Tile(pictures.beside(panels, HEIGHT), caption.title, caption.score, caption.right)


def methods(measured: Measured) -> tuple[str, ...]:
    """Attention rollout, and Grad-CAM where outputs mean something that can be pointed at."""
    return ("rollout",) if measured.predictor.task.monitor is None else ("rollout", "gradcam")


def anatomy(measured: Measured) -> dict[str, Figure]:
    """Patch filters, position similarities, and how far the heads look on some images."""
    predictor, index = measured.predictor, measured.evaluation.index
    some = index[np.random.default_rng(0).permutation(len(index))[:NUM_FOR_DISTANCE]].tolist()
    images = torch.cat([predictor.tensor(measured.source.read(each)) for each in some])
    distances = vit_figures.attention_distances(predictor.task.backbone, images.split(BATCH))
    return {"anatomy": style.styled(vit_figures.figure)(predictor.task.backbone, distances)}
