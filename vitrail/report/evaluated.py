"""A model evaluated on a split of some data, and the files with the results."""

from __future__ import annotations

import csv
import dataclasses
import io
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from vitrail import files
from vitrail.console import note
from vitrail.data import targets
from vitrail.data.indexing.names import synonyms_of
from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.source import Source, SourceConfig, open_source
from vitrail.errors import UserError, did_you_mean
from vitrail.evaluation import Evaluation, evaluate
from vitrail.predictor import Predictor
from vitrail.report import pictures, style
from vitrail.report.coco_results import DETECTIONS, coco_results
from vitrail.report.families import Columns, Family, Figures, family_of
from vitrail.report.figures.confusion import most_confused
from vitrail.report.figures.tiles import Tile, sheet
from vitrail.report.language import say
from vitrail.report.plain import plain

if TYPE_CHECKING:
    from PIL import Image

NUM_TILES = 24
NUM_LISTED = 50  # mistakes and confusions named in the JSON


@dataclass(frozen=True)
class EvaluatedModel:
    """An evaluation with its model and data."""

    evaluation: Evaluation
    predictor: Predictor
    source: Source
    data: str  # the specification of the data
    split: str

    @cached_property
    def family(self) -> Family:
        """How this kind of result is shown."""
        return family_of(self.evaluation)

    @cached_property
    def columns(self) -> Columns:
        """One row per image: target, prediction, loss."""
        return self.family.columns(self.evaluation)

    @cached_property
    def figures(self) -> Figures:
        """The family's figures by section and name."""
        return self.family.figures(self.evaluation)

    @cached_property
    def worst_first(self) -> np.ndarray:
        """Rows by descending loss."""
        return np.argsort(-np.asarray(self.columns["loss"]), kind="stable")

    @cached_property
    def drawable(self) -> np.ndarray:
        """Those of images that are decoded as a whole, which an image too large for that, read by tiles, is not."""
        return np.array([row for row in self.worst_first.tolist() if self._can_be_drawn(row)], np.int64)

    def mistakes(self, count: int = NUM_TILES) -> list[int]:
        """The rows of the wrong images with the highest loss."""
        return self._first(self.worst_first, count, right=False)

    def examples(self, count: int = NUM_TILES) -> list[int]:
        """Rows of images that were right, picked at random."""
        return self._first(np.random.default_rng(0).permutation(len(self.worst_first)), count, right=True)

    def tile(self, row: int) -> Tile:
        """The image of a row with its target and prediction."""
        config = self.predictor.preprocess.config
        index = int(self.evaluation.index[row])
        if self.family.draw is not None:
            image = self.family.draw(self.evaluation, row, pictures.whole(self.source, index, config))
        else:
            image = pictures.sample(self.source, index, config)
        return self.captioned(row, image)

    def captioned(self, row: int, image: Image.Image, alt: str = "") -> Tile:
        """An image of a row with its target and prediction, and a link to its file where it is one."""
        caption = self.family.caption(self.evaluation, row)
        name = self.source.name(int(self.evaluation.index[row]))
        href = Path(name).resolve().as_uri() if Path(name).is_file() else ""
        if not alt and caption.true:
            text = "{true}, predicted right" if caption.right else "{true}, predicted as {predicted}"
            said = say(text, true=caption.true, predicted=caption.predicted)
            alt = ", ".join(filter(None, (said, caption.score, Path(name).name)))
        return Tile(image, caption.title, caption.score, caption.right, Path(name).name, href, alt)

    @property
    def spatial(self) -> bool:
        """Whether target and prediction are drawn on the images, side by side."""
        return self.family.draw is not None

    def to_dict(self) -> dict[str, Any]:
        """All numbers as JSON types; undefined ones are null."""
        evaluation, details = self.evaluation, self.evaluation.details
        result = {
            "data": self.data,
            "split": self.split,
            "images": len(evaluation.index),
            "device": str(self.predictor.device),
            "seconds": evaluation.seconds,
            "images_per_second": evaluation.images_per_second,
            "metrics": evaluation.metrics,
            "worst": [self._row(int(row)) for row in self.worst_first[:NUM_LISTED]],
        }
        if "confusion" in details:
            names = evaluation.family.names
            result["confused"] = [
                {"true": names[true], "predicted": names[said], "images": count}
                for true, said, count in most_confused(details["confusion"], NUM_LISTED)
            ]
        return plain(result | {name: part for name, part in details.items() if name != "confusion"})

    def save(self, folder: Path, name: str) -> None:
        """Write ``<name>.json`` and ``<name>.csv``, one row per image, and of objects ``<name>-detections.json``."""
        files.write_json(folder / f"{name}.json", self.to_dict())
        files.write_text(folder / f"{name}.csv", self._predictions())
        if (found := coco_results(self.evaluation, self.source)) is not None:
            files.write_json(folder / f"{name}{DETECTIONS}", found)

    def save_plots(self, folder: Path) -> None:
        """Draw the family's figures and the worst mistakes into ``folder``."""
        for figures in self.figures.values():
            for name, figure in figures.items():
                style.save_png(figure, folder / f"{name}.png")
        if mistakes := self.mistakes():
            tiles, columns = [self.tile(row) for row in mistakes], 2 if self.spatial else 6
            style.save_png(sheet(tiles, say("Worst mistakes"), columns), folder / "worst_mistakes.png")

    def _row(self, row: int) -> dict[str, Any]:
        index = int(self.evaluation.index[row])
        return {"index": index, "name": self.source.name(index)} | {k: v[row] for k, v in self.columns.items()}

    def _first(self, rows: np.ndarray, count: int, *, right: bool) -> list[int]:
        judged = (int(row) for row in rows if self.family.caption(self.evaluation, int(row)).right == right)
        return list(islice(filter(self._can_be_drawn, judged), count))

    def _can_be_drawn(self, row: int) -> bool:
        """Whether the image is decoded as a whole, which one that is read by tiles is not."""
        config = self.predictor.preprocess.config
        index = int(self.evaluation.index[row])
        return config.tiles is None or self.source.windows(index, config.channels, config.reading) is None

    def _predictions(self) -> str:
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["index", "name", *self.columns])
        names = [self.source.name(int(i)) for i in self.evaluation.index]
        writer.writerows(zip(self.evaluation.index, names, *self.columns.values(), strict=True))
        return text.getvalue()


def measure(
    predictor: Predictor,
    config: SourceConfig,
    split: str | None = None,
    *,
    batch_size: int = 128,
    progress: bool = True,
    threshold: float | None = None,
) -> EvaluatedModel:
    """Evaluate on one split.

    Args:
        config: the data; its classes are read as the model's.
        split: default: test if there is one, else val, else train.
        threshold: the score from which predictions count; default: the metrics choose.

    Raises:
        UserError: no such split, other classes or another kind of label than the model's, an unreadable image.
    """
    source, split = find_split(predictor, config, split)
    loader = Loader(source, predictor.preprocess, LoaderConfig(batch_size=batch_size), train=False)
    predictor = predictor if threshold is None else predictor.at_threshold(threshold)
    on: Any = {"device": predictor.device, "forward": predictor.engine, "progress": progress}
    evaluation = evaluate(predictor.task, loader, threshold=threshold, **on)
    evaluation.family.names = evaluation.family.names or source.classes  # a model without classes names the data's
    return EvaluatedModel(evaluation, predictor, source, config.spec, split)


def find_split(predictor: Predictor, config: SourceConfig, split: str | None = None) -> tuple[Source, str]:
    """The images to evaluate a model on, with their labels in the model's order, and the split's name.

    Args, Raises: as :func:`measure`.
    """
    task = predictor.task
    if not all(targets.load(kind).labelled for kind in task.takes):
        config = dataclasses.replace(config, labelled="auto")
    elif not any(targets.load(kind).numeric for kind in task.takes):
        config = task.source(
            dataclasses.replace(config, classes=predictor.classes, synonyms=synonyms_of(predictor.classes))
        )
    splits = dict(open_source(config).items())
    if split is None:
        split = next(name for name in ("test", "val", "train") if name in splits)
        note(f"split auto: {split}")
    if split not in splits:
        raise UserError(f"{config.spec!r} has no split {split!r}; {did_you_mean(split, splits)}")
    source = splits[split]
    if source.kind not in task.takes:
        raise UserError(
            f"{config.spec!r} has labels of kind {source.kind!r}, but the model does {task.name}; give other data"
        )
    return source, split
