"""Probabilities that match frequencies."""

from __future__ import annotations

from pathlib import Path

from vitrail.terminal.next_command import DATA, FOLDER, name_next
from vitrail.terminal.options import BatchSize, Json, Opening, Weights, print_json

GROUP = "Use a model"


def calibrate(
    run: Weights,
    out: Path,
    data: str | None = None,
    /,
    *,
    split: str = "val",
    as_json: Json = False,
    opening: Opening = Opening(),  # noqa: B008  frozen
    batch_size: BatchSize = 128,
) -> None:
    """Write a model whose probabilities match frequencies, by temperature scaling.

    One temperature is fitted on held-out images, and the last layer is divided by it: no prediction changes, and every
    engine, export and server of the file computes calibrated probabilities. Prints the metrics before and after.

    Examples
      vitrail calibrate runs/birds calibrated.safetensors
      vitrail calibrate runs/birds calibrated.safetensors other-birds/ --split train

    Args:
        out: A new weights file (.safetensors).
        data: Other data than the run's own: a folder, a table, a named data set.
        split: Split to fit the temperature on: val, and never the one that the result is measured on afterwards.
    """
    from vitrail.calibration import calibrate as calibrated
    from vitrail.console import note, table
    from vitrail.files import require_free
    from vitrail.report.evaluated import find_split
    from vitrail.terminal.measuring import source_and_folder
    from vitrail.trainable import require_trainable

    require_free(out)
    config, _ = source_and_folder(run, data, out, "")
    predictor = opening.load(run)
    source, _ = find_split(predictor, config, split)
    result = calibrated(predictor, source, batch_size=batch_size)
    result.predictor.save(out)
    if as_json:
        print_json(result.to_dict() | {"split": split, "out": str(out)})
    else:
        rows = [("temperature", "1", f"{result.temperature:.4f}")]
        metrics = require_trainable(predictor.task).metrics()
        for name, value in result.before.items():
            shown = metrics.headline(name)
            rows.append((shown.label, shown.show(value), shown.show(result.after[name])))
        print(table((f"{split} ({result.images:,} images)", "before", "after"), rows))
    note(f"written: {out}; measure it on other images")
    name_next("evaluate", out, DATA, "--out", FOLDER, quiet=as_json)
