"""Predictions for pictures."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from cyclopts.types import PositiveInt

from vitrail.console import note
from vitrail.errors import UserError
from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import BatchSize, Json, OnBad, Running, Threshold, Weights
from vitrail.terminal.tiling import Tiling

GROUP = "Use a model"


def predict(
    run: Weights,
    /,
    *inputs: str,
    top: PositiveInt = 5,
    as_json: Json = False,
    as_csv: Annotated[bool, Parameter("--csv", show_default=False)] = False,
    annotate: Path | None = None,
    out: Path | None = None,
    on_bad: OnBad = "error",
    batch_size: BatchSize = 32,
    threshold: Threshold = None,
    tiling: Tiling = Tiling(),  # noqa: B008  frozen
    running: Running = Running(),  # noqa: B008  frozen
) -> None:
    """Predict classes, boxes, masks or numbers of images.

    Examples
      vitrail predict runs/birds photo.jpg
      vitrail predict runs/birds "in/**/*.jpg" --top 1 --csv > birds.csv
      vitrail predict runs/detector photos --annotate drawn --out found.json
      vitrail predict runs/detector photos --threshold 0.1
      vitrail predict runs/detector aerial.tif --tile 640 --overlap 0.2
      find in -name "*.png" | vitrail predict runs/birds - --json
      curl -s https://example.org/bird.jpg | vitrail predict runs/birds -

    Args:
        inputs: Files, folders, quoted globs, or - for paths or one image on standard input.
        top: Number of classes to show.
        as_csv: Print CSV on stdout.
        annotate: A folder for copies of the images with their predictions drawn on; nothing there is overwritten.
        out: A file of boxes, masks or class maps for other tools: COCO .json, .csv, or a new folder (YOLO text, PNG).
    """
    if as_json and as_csv:
        raise UserError("--json and --csv exclude each other; choose one")
    from vitrail.predictor import name_of
    from vitrail.terminal.pictures import BadPictures, pictures, save_new, stem_of
    from vitrail.terminal.prediction_files import saving
    from vitrail.terminal.prediction_streams import csv_writer, json_writer, table_writer

    found = pictures(inputs)
    predictor = tiling.applied(running.load(run))
    predictor = predictor if threshold is None else predictor.at_threshold(threshold)
    writer = json_writer if as_json else csv_writer if as_csv else table_writer
    bad, num_good = BadPictures(on_bad), 0
    with writer(top) as write, saving(out, predictor.classes) if out is not None else nullcontext() as save:
        for image, prediction in predictor.stream(found, batch_size):
            if isinstance(prediction, UserError):
                bad.add(prediction)
                continue
            num_good += 1
            write(name_of(image), prediction)
            if save is not None:
                save(name_of(image), prediction)
            if annotate is not None:
                drawing = prediction.draw(predictor.picture(image))
                save_new(drawing, annotate / f"{stem_of(name_of(image))}.jpg")
    bad.report(num_good)
    for what, place in (("annotated images", annotate), ("predictions", out)):
        if place is not None:
            note(f"written: {what} in {place}")
    name_next("explain", run, inputs[0] if len(inputs) == 1 else IMAGE, quiet=as_json or as_csv)
