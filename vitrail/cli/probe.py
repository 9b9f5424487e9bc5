"""Quality of the features of a frozen backbone."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from cyclopts import Parameter

from vitrail.errors import UserError
from vitrail.terminal.next_command import name_next
from vitrail.terminal.options import BatchSize, Json, MaxPixels, Opening, Weights, print_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrail.probe.result import Result, Score
    from vitrail.report.figures.probe import Points

GROUP = "Use a model"


def probe(
    model: Weights,
    data: str,
    /,
    *,
    method: str = "knn",
    layer: Annotated[str, Parameter(metavar="-1,-4 | all", allow_leading_hyphen=True)] = "-1",
    pool: Literal["cls", "mean", "cls_mean"] | None = None,
    labels: tuple[float, ...] = (1.0,),
    seeds: int = 3,
    augment: int = 0,
    memory: float = 8.0,
    split: str | None = None,
    options: Annotated[tuple[str, ...], Parameter("--set", metavar="OPTION=VALUE", show_default=False)] = (),
    out: Path | None = None,
    as_json: Json = False,
    batch_size: BatchSize = 64,
    max_pixels: MaxPixels = None,
    opening: Opening = Opening(),  # noqa: B008  frozen
) -> None:
    """Measure the features of a frozen backbone with simple classifiers.

    The backbone is not trained: nearest neighbours, a linear classifier or an attentive classifier over the patches
    learn from the labels of the training images. Their hyperparameters are chosen on validation images, or where there
    are none on held-out training images.

    Examples
      vitrail probe runs/mae-photos photos/
      vitrail probe runs/mae-photos photos/ --method linear --layer all --out probed
      vitrail probe runs/dino-photos photos/ --labels 0.01 --labels 0.1 --seeds 5
      vitrail probe runs/dino-photos photos/ --method linear --augment 5 --set lrs=[0.01,0.1,1]

    Args:
        data: A data set with class labels, as for vitrail train.
        method: knn, linear, attentive, or my_pkg.my_module.
        layer: Indices of the layers to measure (0 is the first, -1 the last), or all.
        pool: Pooling of the tokens to one vector; default: the model's. The method attentive needs none.
        labels: Fraction of the training labels to learn from; can be repeated.
        seeds: Number of random subsets for each fraction below 1.
        augment: Number of randomly cropped and flipped views of each training image; 0: one view, not augmented.
        memory: GiB of patch tokens to cache; beyond it, every epoch computes them again (attentive).
        split: Measure on val or test; default: test where there is one.
        options: Another option of the method.
        out: A folder for probe.json and probe.png.
    """
    from vitrail.config import parse_assignments
    from vitrail.console import note
    from vitrail.probe import Protocol
    from vitrail.probe import probe as measure

    protocol = Protocol(
        layers=_layers(layer), pool=pool, labels=labels, seeds=seeds, augment=augment, memory=memory
    )  # before a model is opened
    settings = parse_assignments(options)
    predictor = opening.load(model)
    result = measure(predictor, data, method, protocol, settings, split=split, batch_size=batch_size)
    if out is not None:
        from vitrail import files
        from vitrail.report import style

        files.write_json(out / "probe.json", result.to_dict())
        style.save_png(_figure(result), out / "probe.png")
        note(f"written: {out / 'probe.json'} and probe.png")
    if as_json:
        print_json(result.to_dict())
    else:
        print(result.table)
    name_next("train", data, "--init", model, quiet=as_json)


def _layers(text: str) -> Any:
    if text == "all":
        return text
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise UserError(f"{text!r} names no layers; write --layer -1, --layer 0,5,11 or --layer all") from None


def _figure(result: Result) -> Figure:
    """Accuracy by layer or by share of the labels, whichever there are several of, else by setting."""
    from vitrail.report import style
    from vitrail.report.figures.probe import accuracy

    data = style.short(Path(result.data).name, 30)
    note = f"{result.method} on {result.split} of {data}, with 95 % intervals"
    scores = result.scores
    if len(scores) == 1:
        name = next(iter(scores[0].trials[0].outcome.best.values))
        return accuracy(_by_setting(scores[0], name), name, note, log=True)
    layers = list(dict.fromkeys(score.layer for score in scores))
    shares = list(dict.fromkeys(score.share for score in scores))
    if len(layers) > 1:
        by_share = {f"{100 * share:g} % of the labels": [s for s in scores if s.share == share] for share in shares}
        return accuracy({name: _points(each, "layer") for name, each in by_share.items()}, "layer", note)
    return accuracy({"": _points(scores, "share")}, "share of the labels", note, log=True)


def _points(scores: Sequence[Score], place: Literal["layer", "share"]) -> Points:
    import numpy as np

    scores = sorted(scores, key=lambda score: getattr(score, place))
    places = np.array([float(getattr(score, place)) for score in scores])
    return places, np.array([s.accuracy for s in scores]), np.array([s.interval for s in scores]).T


def _by_setting(score: Score, name: str) -> dict[str, Points]:
    """A curve for each draw of labels, over the values of one option beside what was chosen of the others."""
    import numpy as np

    from vitrail.metrics.confidence import wilson

    curves = {}
    for trial in score.trials:
        best = trial.outcome.best.values
        beside = [s for s in trial.outcome.settings if {**s.values, name: 0} == {**best, name: 0}]
        intervals = np.array([wilson(s.test, score.num_test) for s in beside]).T
        curves[f"draw {trial.seed}"] = (
            np.array([s.values[name] for s in beside]),
            np.array([s.test for s in beside]),
            intervals,
        )
    return curves
