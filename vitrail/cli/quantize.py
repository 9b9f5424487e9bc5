"""A model whose layers compute in int8."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt

from vitrail.terminal.options import AllowPickle, Json, Merge, Sizes, Weights, print_json

if TYPE_CHECKING:
    from vitrail.data.source import Source, SourceConfig
    from vitrail.predictor import Predictor, Sample

GROUP = "Use a model"


def quantize(
    run: Weights,
    out: Path,
    data: str | None = None,
    /,
    *,
    budget: NonNegativeFloat = 1.0,
    calibration: Annotated[PositiveInt, Parameter(metavar="N")] = 300,
    weights_only: Annotated[bool, Parameter(show_default=False)] = False,
    merge: Merge = 0,
    as_json: Json = False,
    sizes: Sizes = Sizes(),  # noqa: B008  frozen
    allow_pickle: AllowPickle = False,
) -> None:
    """Write a model that computes in int8 and loses no more accuracy than a budget allows.

    Activation ranges are measured on calibration images. Layers that lose too much stay in higher precision until the
    loss, measured on other labelled images, is within the budget; without labels the outputs are compared with the
    original model's. Prints accuracy, speed and size before and after.

    Examples
      vitrail quantize runs/birds birds.xml
      vitrail quantize runs/birds birds.onnx photos/ --budget 0.5
      vitrail quantize runs/birds birds.xml photos/ --weights-only
      vitrail quantize runs/birds fastest.xml --merge 8

    Args:
        out: A new file, .xml for OpenVINO or .onnx for ONNX Runtime.
        data: Other data than the run's own: a folder, a table, a named data set. Without splits it is halved.
        budget: Accuracy that may be lost, in percentage points.
        calibration: Maximum number of calibration images.
        weights_only: Store only the weights in int8 and compute in floating point: smaller, nearly the same outputs.
    """
    from vitrail import int8
    from vitrail.compress import apply
    from vitrail.console import note
    from vitrail.predictor import load
    from vitrail.terminal.measuring import source_and_folder

    config, _ = source_and_folder(run, data, out, "", val_fraction=0.5)
    options: dict[str, Any] = {**sizes.read()}
    predictor = load(run, device="cpu", allow_pickle=allow_pickle, **options)
    if merge:
        predictor = apply(predictor, "tome", r=merge)
    images, labelled = _divided(predictor, config, calibration)
    result = int8.quantize(predictor, out, images, labelled=labelled, budget=budget, weights_only=weights_only)
    if as_json:
        print_json(result.to_dict())
    else:
        print(result.table)
    if result.kept:
        note(f"{len(result.kept)} of {len(result.kept) + result.layers} layers kept: {', '.join(result.kept)}")
    note(f"written: {result.path}")


def _divided(predictor: Predictor, config: SourceConfig, count: int) -> tuple[list[Sample], Source | None]:
    """Images from all over the training split to calibrate on, and held-out ones where they have the task's labels."""
    import dataclasses
    from functools import partial

    import numpy as np

    from vitrail.console import note
    from vitrail.data import targets
    from vitrail.data.source import open_source
    from vitrail.predictor import Sample

    task = predictor.task
    classes = () if any(targets.load(kind).numeric for kind in task.takes) else predictor.classes
    splits = dict(open_source(dataclasses.replace(config, labelled="auto", classes=classes)).items())
    source = splits.get("train") or next(iter(splits.values()))
    held_out = splits.get("test") or splits.get("val")
    if held_out is source or source.kind not in task.takes or task.monitor_mode != "max":
        held_out = None
    chosen = np.linspace(0, len(source) - 1, min(len(source), count)).astype(int).tolist()
    on = f"the labels of {len(held_out):,} others" if held_out else "how far the outputs on them stay the same"
    note(f"calibrated on {len(chosen):,} images, measured on {on}")
    return [Sample(source.name(i), partial(source.read, i)) for i in chosen], held_out
