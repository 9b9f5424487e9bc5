"""Smaller and faster variants of a trained model, and their accuracy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, cast

from cyclopts import Parameter
from cyclopts.types import NonNegativeInt, PositiveInt

from vitrail.errors import UserError
from vitrail.terminal.next_command import DATA, name_next
from vitrail.terminal.options import BatchSize, Json, Opening, Weights, print_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrail.compress.curve import Point
    from vitrail.data.batch import Batch
    from vitrail.data.source import Source, SourceConfig
    from vitrail.predictor import Predictor

GROUP = "Use a model"


def compress(
    run: Weights,
    data: str | None = None,
    /,
    *,
    method: str = "tome",
    levels: Annotated[str | None, Parameter(metavar="4,8,12")] = None,
    options: Annotated[tuple[str, ...], Parameter("--set", metavar="OPTION=VALUE", show_default=False)] = (),
    split: str | None = None,
    calibration: PositiveInt = 256,
    pictures: NonNegativeInt = 4,
    out: Path | None = None,
    as_json: Json = False,
    batch_size: BatchSize = 8,
    opening: Opening = Opening(),  # noqa: B008  frozen
) -> None:
    """Measure speed and accuracy of a model with fewer tokens, heads or units.

    Prints a table of speed and accuracy, and writes it as curve.json and curve.png, with figures of the remaining
    tokens (tome, evit) or with the weights of the smaller models (prune), which `vitrail train --init` can fine-tune.

    Examples
      vitrail compress runs/birds
      vitrail compress runs/birds photos/ --method tome --levels 8,13,16 --set schedule=falling --out merged
      vitrail compress runs/birds --method prune --levels 0.25,0.5

    Args:
        data: Other data than the run's own: a folder, a table, a named data set.
        method: tome (merge tokens), evit (prune tokens), prune (heads and units), or my_pkg.my_module.
        levels: Strengths to measure: r of tome, keep of evit, share of prune; default: those of the method.
        options: An option of the method; can be repeated.
        split: Split to measure on: train, val or test; default: test where there is one, else val.
        calibration: Maximum number of training images for the importance of heads and units (prune).
        pictures: Number of images to draw the tokens of.
        out: A folder for the files; default: compression/METHOD in the run folder.
    """
    from vitrail.compress import calibrates, variants
    from vitrail.compress.curve import measure
    from vitrail.config import parse_assignments
    from vitrail.console import note
    from vitrail.report.evaluated import find_split
    from vitrail.terminal.measuring import source_and_folder

    chosen = _levels(levels)
    settings = parse_assignments(options)
    learns = calibrates(method)
    val_fraction = None if learns else 0.0  # all images of other data count, except those that the method learns from
    config, folder = source_and_folder(run, data, out, f"compression/{method}", val_fraction)
    predictor = opening.load(run)
    source, split = find_split(predictor, config, split)
    batches = _calibration(predictor, config, calibration, batch_size) if learns else None
    models = variants(predictor, method, chosen, calibration=batches, **settings)
    points = measure(models, source, batch_size=batch_size)
    _write(folder, points, models, source, split, batch_size, pictures)
    note(f"written: {folder}")
    if as_json:
        print_json(_plain(points, source, split, batch_size))
    else:
        print(_table(points, predictor.task.monitor or "loss"))
    if learns and len(points) > 1:  # smaller models, which fine-tuning makes more accurate
        name_next("train", DATA if data is None else data, "--init", _file(folder, points[-1].name), quiet=as_json)
    else:
        name_next("benchmark", run, quiet=as_json)


def _levels(text: str | None) -> tuple[float, ...]:
    try:
        return () if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{text!r} names no levels; write numbers, as in --levels 4,8,12") from None


def _calibration(predictor: Predictor, config: SourceConfig, count: int, batch_size: int) -> Iterator[Batch]:
    """Up to ``count`` training images from all over the split, in batches."""
    import numpy as np

    from vitrail.console import note
    from vitrail.data.loading.loader import Loader, LoaderConfig
    from vitrail.data.transforms.scene import ScenePreprocess
    from vitrail.report.evaluated import find_split

    source, _ = find_split(predictor, config, "train")
    source = source.subset(np.linspace(0, len(source) - 1, min(len(source), count)).astype(np.int64))
    note(f"importance measured on {len(source):,} training images")
    kind, preprocess = source.target_kind, predictor.preprocess
    transform = ScenePreprocess(preprocess.config, kind) if kind.spatial else preprocess  # targets as a loss takes them
    loader = Loader(source, transform, LoaderConfig(batch_size=batch_size), train=False)
    return loader.batches()


def _plain(points: list[Point], source: Source, split: str, batch_size: int) -> dict[str, Any]:
    from vitrail.compress.curve import curve_table
    from vitrail.report.plain import plain

    measured = {"split": split, "images": len(source), "batch_size": batch_size}
    return plain(measured | {"points": curve_table(points).to_dict()})


def _table(points: list[Point], monitor: str) -> str:
    from vitrail.compress.curve import curve_table
    from vitrail.results import Column

    headline = points[0].evaluation.family.headline(monitor)
    metric: Column[Point] = Column(lambda point: headline.show(point.evaluation.metrics[monitor]), headline.label)
    return str(curve_table(points, metric))


def _write(
    folder: Path, points: list[Point], models: dict[str, Predictor], source: Source, split: str, batch: int, count: int
) -> None:
    """The numbers, the curve, and the smaller models or pictures of the tokens that are left."""
    from vitrail import files
    from vitrail.report import style
    from vitrail.report.plain import plain
    from vitrail.trainable import image_encoder

    files.write_json(folder / "curve.json", _plain(points, source, split, batch))
    style.save_png(_curve(points, models, f"{split}, {len(source):,} images"), folder / "curve.png")
    compressed = {point.name: (models[point.name], point) for point in points[1:]}
    reduced = {
        name: model for name, (model, _) in compressed.items() if not image_encoder(model.task).fixed_token_count
    }
    if reduced and count:
        style.save_png(_tokens(reduced, source, count), folder / "tokens.png")
    for name, (model, point) in compressed.items():
        if name not in reduced:
            model.metrics = cast("dict[str, float]", plain(point.evaluation.metrics))
            model.save(_file(folder, name))


def _file(folder: Path, name: str) -> Path:
    """Of the weights of a smaller model."""
    return folder / f"{name.replace('=', '-')}.safetensors"


def _curve(points: list[Point], models: dict[str, Predictor], note: str) -> Figure:
    from vitrail.report.figures.tradeoff import tradeoff

    monitor = models[points[0].name].task.monitor or "loss"
    label = points[0].evaluation.family.headline(monitor).label
    scores = [point.evaluation.metrics[monitor] for point in points]
    return tradeoff([point.name for point in points], [point.speedup for point in points], scores, label, note)


def _tokens(models: dict[str, Predictor], source: Source, count: int) -> Figure:
    """A row an image: the picture, then as each model's tokens see it."""
    from functools import partial

    import numpy as np
    import torch

    from vitrail.compress.token_overlay import token_overlay
    from vitrail.explain.overlay import outline
    from vitrail.predictor import Sample
    from vitrail.report.figures.tiles import Tile, sheet
    from vitrail.trainable import image_encoder

    tiles = []
    for index in np.linspace(0, len(source) - 1, min(len(source), count)).astype(int).tolist():
        sample = Sample(source.name(index), partial(source.read, index))
        for place, (name, model) in enumerate(models.items()):
            picture = model.picture(sample)
            region = model.preprocess.region((picture.height, picture.width))
            with torch.inference_mode():
                features: Any = image_encoder(model.task)(model.tensor(sample))
            if not place:
                tiles.append(
                    Tile(outline(picture, region), Path(sample.name).name, f"{features.source.shape[1]} patches")
                )
            seen = token_overlay(picture, features.source[0].reshape(features.grid).cpu().numpy(), region)
            tiles.append(Tile(seen, name, f"{features.remaining.shape[1]} tokens"))
    return sheet(tiles, "Patches in the colour of the token they became part of", 1 + len(models))
