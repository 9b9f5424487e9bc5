"""Attention maps of some of the evaluated images, and figures of what the layers learned."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from vitrail.explain import explain, vit_figures
from vitrail.explain.overlay import outline, overlay
from vitrail.report import pictures, style
from vitrail.report.figures.tiles import Tile
from vitrail.trainable import image_encoder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrail.report.evaluated import EvaluatedModel

NUM_RIGHT, NUM_WRONG = 4, 2
NUM_FOR_DISTANCE, BATCH = 16, 4  # attention matrices of many images together would not fit into memory
HEIGHT = 200  # pixels of a strip


def strips(evaluated: EvaluatedModel) -> list[Tile]:
    """Some images next to their heat maps, one strip per image: first correct ones, then the worst mistakes."""
    rows = evaluated.examples(NUM_RIGHT) + evaluated.mistakes(NUM_WRONG)
    return [strip(evaluated, row) for row in rows or evaluated.worst_first[-NUM_RIGHT:].tolist()]


def strip(evaluated: EvaluatedModel, row: int) -> Tile:
    """The image, its attention rollout, and Grad-CAM of its prediction."""
    predictor = evaluated.predictor
    stored = evaluated.source.read(int(evaluated.evaluation.index[row]))
    picture, (images, *padding) = predictor.read(stored), predictor.inputs(stored)
    if not isinstance(picture, Image.Image):  # of many channels, the first three
        picture = Image.fromarray(picture[:3].permute(1, 2, 0).numpy() if len(picture) >= 3 else picture[0].numpy())
    region = predictor.preprocess.region((picture.height, picture.width))
    border = padding[0] if padding else None
    heats = [explain(predictor.task, images, method, padding=border)[0] for method in methods(evaluated)]
    panels = [outline(picture, region), *(overlay(picture, heat, region) for heat in heats)]
    caption = evaluated.family.caption(evaluated.evaluation, row)
    return Tile(pictures.beside(panels, HEIGHT), caption.title, caption.score, caption.right)


def methods(evaluated: EvaluatedModel) -> tuple[str, ...]:
    """Attention rollout, and Grad-CAM if the outputs are predictions."""
    return ("rollout",) if evaluated.predictor.task.monitor is None else ("rollout", "gradcam")


def anatomy(evaluated: EvaluatedModel) -> dict[str, Figure]:
    """Patch filters, position similarities, and attention distances of the heads on some images."""
    predictor, index = evaluated.predictor, evaluated.evaluation.index
    some = index[np.random.default_rng(0).permutation(len(index))[:NUM_FOR_DISTANCE]].tolist()
    inputs = [predictor.inputs(evaluated.source.read(each)) for each in some]
    batches = zip(*(torch.cat(part).split(BATCH) for part in zip(*inputs, strict=True)), strict=True)
    distances = vit_figures.attention_distances(predictor.task, batches)
    return {"anatomy": style.styled(vit_figures.figure)(image_encoder(predictor.task), distances)}
