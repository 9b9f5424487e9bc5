"""A learning rate for a training."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrail.cli.train import TrainOptions
from vitrail.terminal.options import Json, print_json


def find_rate(
    data: str | None = None,
    /,
    *,
    plot: Annotated[Path | None, Parameter(help="A .png or .json file for the curve.")] = None,
    steps: Annotated[int, Parameter(help="Number of training steps of the test.")] = 100,
    as_json: Json = False,
    options: TrainOptions = TrainOptions(),  # noqa: B008  frozen
) -> None:
    """Find a learning rate: train some steps while it rises, and see where the loss falls.

    Takes the options of vitrail train and keeps nothing of the training. Prints the rate to train with.

    Examples
      vitrail find-rate photos/ --init runs/birds --plot rates.png
      vitrail find-rate photos/ --model S/16 --batch-size 64 --steps 200

    Args:
        data: A folder, .csv, .npz, .tar, COCO .json, YOLO .yaml or the name of a data set.
    """
    from vitrail import files
    from vitrail.console import note
    from vitrail.errors import UserError
    from vitrail.files import require_free
    from vitrail.report import style
    from vitrail.report.figures.rates import rate_curve
    from vitrail.terminal.training import default_name, requested
    from vitrail.train.rate_finder import find_rate as found

    if plot is not None:
        require_free(plot)
        if plot.suffix not in (".png", ".json"):
            raise UserError(f"--plot {plot.name!r} is neither a picture nor numbers; end it with .png or .json")
    if options.resume is None:
        default_name(data, options)  # says what is missing
    curve = found(requested(data, options), num_steps=steps)
    if plot is not None and plot.suffix == ".png":
        style.save_png(rate_curve(curve.rates, curve.losses, curve.smoothed, curve.suggested), plot)
    elif plot is not None:
        files.write_json(plot, curve.to_dict())
    if as_json:
        print_json(curve.to_dict())
    else:
        print(f"{curve.suggested:g}")
    note(f"the loss is lowest at {curve.lowest:.2g}; train with --lr {curve.suggested:g}")
