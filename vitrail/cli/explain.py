"""Explanations of single predictions, and figures of what a model has learned."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.console import note
from vitrail.errors import UserError
from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import MaxPixels, Opening, Weights

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from vitrail.explain import PatchMap
    from vitrail.predictor import ImageLike, Predictor

GROUP = "Use a model"
NUM_IMAGES = 128  # of the run's own data, for the attention distances (as many as the ViT paper took)


def explain(
    run: Weights,
    /,
    *inputs: str,
    method: str = "all",
    layer: int | None = None,
    head: int | None = None,
    target: Annotated[str | None, Parameter("--class")] = None,
    point: Annotated[str | None, Parameter(metavar="X,Y")] = None,
    reference: str | None = None,
    options: Annotated[tuple[str, ...], Parameter("--set", metavar="OPTION=VALUE", show_default=False)] = (),
    each: Annotated[bool, Parameter(negative=())] = False,
    out: Path = Path("explained"),
    max_pixels: MaxPixels = None,
    opening: Opening = Opening(),  # noqa: B008  frozen
) -> None:
    """Draw maps that explain predictions and features, or figures of what a model has learned.

    With images: one sheet for each, with its prediction and a map of each method. Without: figure 7 of the ViT paper,
    that is patch filters, position embeddings and the attention distance of each head.

    Examples
      vitrail explain runs/birds photo.jpg
      vitrail explain runs/birds photo.jpg --method attention --layer 5 --each
      vitrail explain runs/birds photo.jpg --method gradcam --class robin
      vitrail explain runs/birds photo.jpg --method rollout --set fusion=max --set discard=0.5
      vitrail explain runs/birds photo.jpg --method similarity --point 120,80
      vitrail explain runs/birds photo.jpg --method pca --reference other.jpg
      vitrail explain runs/birds

    Args:
        inputs: Files, folders, quoted globs, or - for paths or one image on standard input.
        method: attention, rollout, gradcam, relevance, pca, similarity, queries (of detectors), lam and disagreement
            (of restored pictures), my_pkg.my_module, or all that apply.
        layer: Index of a layer: 0 is the first, -1 the last.
        head: Index of a head of that layer (attention).
        target: The class to explain, by name or number (gradcam, relevance, queries); default: the most probable.
        point: The place to compare with (similarity) or to explain (lam), in pixels from the left and the top; default:
            the middle.
        reference: Another image, which the point is in or whose colours are taken (similarity, pca).
        options: An option of the method; can be repeated.
        each: Write every map as a file of its own, beside the sheet.
        out: A folder for the figures; nothing there is overwritten.
    """
    from vitrail.config import parse_assignments
    from vitrail.explain import named_output
    from vitrail.explain.overlay import overlay, sheet
    from vitrail.predictor import name_of
    from vitrail.terminal.pictures import pictures, save_new, stem_of

    found = pictures(inputs) if inputs else iter(())
    predictor = opening.load(run)
    if not inputs:
        print(save_new(_anatomy(predictor, Path(run)), out / "anatomy.png"))
        name_next("explain", run, IMAGE)
        return
    output = None if target is None else named_output(predictor.classes, target)
    asked = {"layer": layer, "head": head, "target": output}
    settings = {name: value for name, value in asked.items() if value is not None} | parse_assignments(options)
    for image in found:
        picture = predictor.picture(image)
        region = predictor.preprocess.region((picture.height, picture.width))
        place = {} if point is None else {"patch": _patch(predictor, reference or image, _coordinates(point))}
        maps = _maps(predictor, image, method, settings | place, reference)
        stem = stem_of(name_of(image))
        if each or len(maps) == 1:
            for one in maps:
                part = re.sub(r"\W+", "-", one.title.lower())
                print(save_new(overlay(picture, one, region), out / f"{stem}-{part}.png"))
        if len(maps) > 1:
            title = f"{stem}: {_answer(predictor, image)}"
            print(save_new(sheet(picture, maps, region, title), out / f"{stem}-sheet.png"))
    name_next("serve", run)


def _maps(
    predictor: Predictor, image: ImageLike, method: str, settings: dict[str, Any], reference: str | None
) -> list[PatchMap]:
    from vitrail.explain import comparing, explain, explain_all

    images, *borders = predictor.inputs(image)
    padding = borders[0] if borders else None
    if method == "all" and reference is None:
        return explain_all(predictor.task, images, padding=padding, **settings)
    if method == "all":
        raise UserError(f"--reference needs a method that compares two images; add --method {' or '.join(comparing())}")
    other = () if reference is None else predictor.inputs(reference)
    return explain(predictor.task, images, method, padding=padding, reference=other, **settings)


def _answer(predictor: Predictor, image: ImageLike) -> str:
    """The prediction on one line; of a model without a trained head that it has none."""
    from vitrail.tasks import Predicting
    from vitrail.terminal.prediction_streams import in_words

    if not isinstance(predictor.task, Predicting) or not predictor.classes:
        return "no prediction"
    return in_words(predictor.predict(image))


def _coordinates(text: str) -> tuple[float, float]:
    try:
        x, y = (float(number) for number in text.split(","))
    except ValueError:
        raise UserError(
            f"{text!r} is no point; write pixels from the left and the top, such as --point 120,80"
        ) from None
    return x, y


def _patch(predictor: Predictor, image: ImageLike, point: tuple[float, float]) -> int:
    """The patch at a point of an image."""
    from vitrail.explain.overlay import patch_at
    from vitrail.trainable import image_encoder

    images, *_ = predictor.inputs(image)
    picture = predictor.picture(image)
    region = predictor.preprocess.region((picture.height, picture.width))
    return patch_at(point, region, image_encoder(predictor.task).grid(images))


def _anatomy(predictor: Predictor, run: Path) -> Figure:
    from vitrail.explain import vit_figures
    from vitrail.trainable import image_encoder

    vit, inputs = image_encoder(predictor.task), _own_inputs(predictor, run)
    if not inputs:
        note("the images of the run's data are not available, so the attention distances are left out")
        return vit_figures.figure(vit)
    return vit_figures.figure(vit, vit_figures.attention_distances(predictor.task, inputs))


def _own_inputs(predictor: Predictor, run: Path) -> Iterator[tuple[Tensor, ...]] | None:
    """Preprocessed images, one by one, from the data in the run's config; None without a run or its data."""
    import numpy as np

    from vitrail.data import open_data
    from vitrail.predictor import Sample
    from vitrail.train.folder import RunFolder

    try:
        splits = open_data(RunFolder(run).run().data).splits
    except UserError:
        return None
    source = next(source for source in (splits.val, splits.test, splits.train) if source is not None)
    chosen = np.linspace(0, len(source) - 1, min(len(source), NUM_IMAGES)).astype(int).tolist()
    return (predictor.inputs(Sample(source.name(i), partial(source.read, i))) for i in chosen)
