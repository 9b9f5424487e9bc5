"""A model whose layers compute in int8."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter
from cyclopts.types import NonNegativeFloat, PositiveInt

from vitrail.errors import UserError
from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import AllowPickle, Json, Merge, Names, Sizes, Weights, print_json

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
    budget: Annotated[NonNegativeFloat | None, Parameter(show_default=False)] = None,
    calibration: Annotated[PositiveInt, Parameter(metavar="N")] = 300,
    weights_only: Annotated[bool, Parameter(show_default=False)] = False,
    merge: Merge = 0,
    as_json: Json = False,
    sizes: Sizes = Sizes(),  # noqa: B008  frozen
    allow_pickle: AllowPickle = False,
    names: Names = None,
) -> None:
    """Write a model that computes in int8 and loses no more accuracy than a budget allows.

    Activation ranges are measured on calibration images. Layers that lose too much stay in higher precision until the
    loss, measured on other labelled images, is within the budget; without labels the predictions on them are compared
    with the original model's. The test split takes no part. Prints accuracy, speed and size before and after.

    Examples
      vitrail quantize runs/birds birds.xml
      vitrail quantize runs/birds birds.onnx photos/ --budget 0.5
      vitrail quantize runs/birds birds.xml photos/ --weights-only
      vitrail quantize runs/birds fastest.xml --merge 8

    Args:
        out: A new file, .xml for OpenVINO or .onnx for ONNX Runtime.
        data: Other data than the run's own: a folder, a table, a named data set. Without splits it is halved.
        budget: Accuracy that may be lost, in percentage points (default 1); of restored pictures in dB (default 0.1).
        calibration: Maximum number of calibration images.
        weights_only: Store only the weights in int8 and compute in floating point: smaller, nearly the same outputs.
    """
    from vitrail import int8
    from vitrail.compress import apply
    from vitrail.console import note
    from vitrail.loading import load
    from vitrail.terminal.measuring import source_and_folder

    config, _ = source_and_folder(run, data, out, "", val_fraction=0.5)
    options: dict[str, Any] = {**sizes.read()}
    predictor = load(run, device="cpu", allow_pickle=allow_pickle, names=names, **options)
    if merge:
        predictor = apply(predictor, "tome", r=merge)
    images, labelled, others = _divided(predictor, config, calibration)
    result = int8.quantize(
        predictor, out, images, labelled=labelled, others=others, budget=budget, weights_only=weights_only
    )
    if as_json:
        print_json(result.to_dict())
    else:
        print(result.table)
    if result.kept:
        note(f"{len(result.kept)} of {len(result.kept) + result.layers} layers kept: {', '.join(result.kept)}")
    note(f"written: {result.path}")
    name_next("predict", result.path, IMAGE, quiet=as_json)


def _divided(
    predictor: Predictor, config: SourceConfig, count: int
) -> tuple[list[Sample], Source | None, list[Sample]]:
    """Images from all over the training split to calibrate on; and what decides which layers stay in higher precision:
    other images with the task's labels, or some without. None of them is of the test split.

    Raises:
        UserError: the data has a test split alone.
    """
    import dataclasses
    from functools import partial

    import numpy as np

    from vitrail.console import note
    from vitrail.data import targets
    from vitrail.data.source import open_source
    from vitrail.int8.scores import measure_of
    from vitrail.predictor import Sample

    def spread(source: Source, most: int) -> list[int]:
        return np.linspace(0, len(source) - 1, min(len(source), most)).astype(int).tolist()

    def samples(source: Source, places: list[int]) -> list[Sample]:
        return [Sample(source.name(i), partial(source.read, i)) for i in places]

    task = predictor.task
    classes = () if any(targets.load(kind).numeric for kind in task.takes) else predictor.classes
    splits = dict(open_source(dataclasses.replace(config, labelled="auto", classes=classes)).items())
    own = [splits[name] for name in ("train", "val") if name in splits]
    if not own:
        raise UserError("the data has a test split alone, which must decide nothing; give other images as DATA")
    source, places = own[0], spread(own[0], count)
    if len(own) > 1:
        held_out = own[1]
    else:
        chosen = spread(source, 2 * count)
        places, held_out = chosen[::2], source.subset(np.array(chosen[1::2], np.int64))
    labelled = source.kind in task.takes and source.target_kind.labelled and measure_of(task) is not None
    others = [] if labelled else samples(held_out, spread(held_out, count))
    on = (
        f"the labels of {len(held_out):,} others"
        if labelled
        else f"how far predictions of {len(others):,} others change"
    )
    note(f"calibrated on {len(places):,} images, measured on {on}")
    return samples(source, places), held_out if labelled else None, others
