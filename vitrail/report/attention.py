"""Attention and patch features of some of the evaluated images, and figures of what the layers learned."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from vitrail.explain import PatchMap, explain, vit_figures
from vitrail.explain.overlay import Region, outline, overlay
from vitrail.report import pictures, style
from vitrail.report.figures.tiles import Tile
from vitrail.report.language import say
from vitrail.trainable import image_encoder

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from vitrail.report.evaluated import EvaluatedModel

NUM_RIGHT, NUM_WRONG = 4, 2
NUM_PAIRS, MANY = 4, 64  # pairs of images, and images that they are chosen from
NUM_FOR_DISTANCE, BATCH = 16, 4  # attention matrices of many images together would not fit into memory
HEIGHT = 200  # pixels of a strip


def strips(evaluated: EvaluatedModel) -> list[Tile]:
    """Some images next to their heat maps, one strip per image: first correct ones, then the worst mistakes."""
    rows = evaluated.examples(NUM_RIGHT) + evaluated.mistakes(NUM_WRONG)
    return [strip(evaluated, row) for row in rows or evaluated.drawable[-NUM_RIGHT:].tolist()]


def strip(evaluated: EvaluatedModel, row: int) -> Tile:
    """The image, its attention rollout, and Grad-CAM of its prediction."""
    seen = _seen(evaluated, row)
    maps = [seen.explain(method)[0] for method in methods(evaluated)]
    panels = [outline(seen.picture, seen.region), *(overlay(seen.picture, each, seen.region) for each in maps)]
    caption = evaluated.family.caption(evaluated.evaluation, row)
    alt = say("{name} beside {maps}", name=caption.title or seen.name, maps=", ".join(each.title for each in maps))
    return evaluated.captioned(row, pictures.beside(panels, HEIGHT), alt)


def pairs(evaluated: EvaluatedModel) -> list[Tile]:
    """Two images on top of each other, each with the colours of its patches and what is like one patch of the upper
    one: the patch that its Grad-CAM, or else its rollout, is highest at. Where there are classes both are of one."""
    rows = evaluated.examples(MANY) or evaluated.drawable[:MANY].tolist()
    titles = [evaluated.family.caption(evaluated.evaluation, row).title for row in rows]
    alike = [(a, b) for i, a in enumerate(rows) for j, b in enumerate(rows) if i < j and titles[i] == titles[j]]
    tiles: list[Tile] = []
    if not alike and len(rows) > 1:
        alike = [(rows[0], rows[1])]
    for upper, lower in alike:
        if len(tiles) < NUM_PAIRS and titles[rows.index(upper)] not in {tile.title for tile in tiles}:
            tiles.append(pair(evaluated, upper, lower))
    return tiles


def pair(evaluated: EvaluatedModel, upper: int, lower: int) -> Tile:
    """See :func:`pairs`."""
    first, second = _seen(evaluated, upper), _seen(evaluated, lower)
    patch = int(first.explain(methods(evaluated)[-1])[0].values.argmax())
    colours = [each.explain("pca", first)[0] for each in (first, second)]
    alike = [first.explain("similarity", patch=patch)[0], second.explain("similarity", first, patch=patch)[0]]
    bands = [
        [
            outline(each.picture, each.region),
            *(overlay(each.picture, maps[i], each.region) for maps in (colours, alike)),
        ]
        for i, each in enumerate((first, second))
    ]
    caption = evaluated.family.caption(evaluated.evaluation, upper)
    alt = say("two images of {name} with the colours of their patches and what is alike", name=caption.title)
    return Tile(pictures.below([pictures.beside(band, HEIGHT) for band in bands]), caption.title, "", alt=alt)


@dataclass(frozen=True)
class _Seen:
    """An evaluated image as it is and as the model receives it."""

    evaluated: EvaluatedModel
    name: str
    picture: Image.Image
    inputs: tuple[Tensor, ...]
    region: Region

    def explain(self, method: str, reference: _Seen | None = None, **options: int) -> list[PatchMap]:
        images, *padding = self.inputs
        border = padding[0] if padding else None
        other = () if reference is None else reference.inputs
        return explain(self.evaluated.predictor.task, images, method, padding=border, reference=other, **options)


def _seen(evaluated: EvaluatedModel, row: int) -> _Seen:
    predictor, index = evaluated.predictor, int(evaluated.evaluation.index[row])
    stored = evaluated.source.read(index)
    picture = predictor.read(stored)
    if not isinstance(picture, Image.Image):  # of many channels, the first three
        picture = Image.fromarray(picture[:3].permute(1, 2, 0).numpy() if len(picture) >= 3 else picture[0].numpy())
    region = predictor.preprocess.region((picture.height, picture.width))
    return _Seen(evaluated, evaluated.source.name(index), picture, predictor.inputs(stored), region)


def methods(evaluated: EvaluatedModel) -> tuple[str, ...]:
    """Attention rollout, and Grad-CAM if the outputs are predictions."""
    return ("rollout",) if evaluated.predictor.task.monitor is None else ("rollout", "gradcam")


def anatomy(evaluated: EvaluatedModel) -> dict[str, Figure]:
    """Patch filters, position similarities, and attention distances of the heads on some images."""
    predictor, index = evaluated.predictor, evaluated.evaluation.index[evaluated.drawable]
    some = index[np.random.default_rng(0).permutation(len(index))[:NUM_FOR_DISTANCE]].tolist()
    inputs = [predictor.inputs(evaluated.source.read(each)) for each in some]
    batches = zip(*(torch.cat(part).split(BATCH) for part in zip(*inputs, strict=True)), strict=True)
    distances = vit_figures.attention_distances(predictor.task, batches)
    figure = style.styled(vit_figures.figure)(image_encoder(predictor.task), distances)
    return {"anatomy": style.translated(figure)}
