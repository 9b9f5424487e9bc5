from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import BatchSize, Json, Running, Threshold, Weights, print_json
from vitrail.terminal.tiling import Tiling

GROUP = "Use a model"


def evaluate(
    run: Weights,
    data: str | None = None,
    /,
    *,
    split: str | None = None,
    as_json: Json = False,
    out: Path | None = None,
    exclude: str | None = None,
    threshold: Threshold = None,
    tiling: Tiling = Tiling(),  # noqa: B008  frozen
    running: Running = Running(),  # noqa: B008  frozen
    batch_size: BatchSize = 128,
) -> None:
    """Measure a trained model on held-out images.

    Prints the metrics, and writes all numbers as JSON, every prediction as CSV, plots and the worst mistakes; of
    objects also the detections for COCO's tools, with the image and category ids of the data.

    Examples
      vitrail evaluate runs/birds
      vitrail evaluate runs/birds photos/ --out scores

    Args:
        data: Other data than the run's own: a folder, a table, a named data set.
        split: Split to evaluate: train, val or test; default: test where there is one, else val.
        exclude: A table or list of images to leave out, such as data check --out writes.
        out: A folder for the files; default: evaluation/ in the run folder.
    """
    from vitrail.console import note, table
    from vitrail.report.evaluated import measure
    from vitrail.terminal.measuring import source_and_folder

    model = tiling.applied(running.load(run))
    # of other data all images count: nothing is split off
    source, folder = source_and_folder(run, data, out, "evaluation", val_fraction=0)
    if exclude is not None:
        source = replace(source, exclude=exclude)
    measured = measure(model, source, split, batch_size=batch_size, threshold=threshold)
    name = measured.split if data is None else f"{Path(data).stem}-{measured.split}"
    if running.merge:
        name += f"-merge{running.merge}"
    name += "" if exclude is None else "-without-excluded"
    name += tiling.suffix + ("" if threshold is None else f"-threshold{threshold:g}")
    if running.tta:
        name += "-tta"
    measured.save(folder, name)
    measured.save_plots(folder / name)
    if as_json:
        print_json(measured.to_dict())
    else:
        rows = measured.family.shown(measured.evaluation)
        rows += [
            ("images", str(len(measured.evaluation.index))),
            ("images/s", f"{measured.evaluation.images_per_second:.1f}"),
        ]
        print(table((f"{measured.split} of {measured.data}", "value"), rows))
    note(f"written: {folder / name}.json, {name}.csv and {name}/")
    name_next("explain", run, IMAGE, quiet=as_json)
