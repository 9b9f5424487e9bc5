"""One model from several trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from vitrail.terminal.next_command import DATA, FOLDER, name_next
from vitrail.terminal.options import AllowPickle, BatchSize, Device, Json, Names, print_json

GROUP = "Use a model"


def average(
    *weights: str,
    out: Annotated[Path, Parameter(help="A new weights file (.safetensors).")],
    data: str | None = None,
    method: Literal["greedy", "uniform"] = "greedy",
    split: str = "val",
    as_json: Json = False,
    device: Device = "auto",
    batch_size: BatchSize = 128,
    allow_pickle: AllowPickle = False,
    names: Names = None,
) -> None:
    """Average the weights of models that were fine-tuned from the same start (model soups).

    The average costs no more than one model. The greedy soup keeps the models that make it no worse on held-out images,
    so it is no worse there than the best of them; the uniform one takes all and needs no images.

    Examples
      vitrail average runs/seed0 runs/seed1 runs/seed2 --out soup.safetensors
      vitrail average runs/seed0 runs/seed1 --method uniform --out soup.safetensors

    Args:
        weights: Run folders or weights files of one architecture.
        data: Other data than the first run's own: a folder, a table, a named data set.
        method: greedy, or uniform for the mean of all.
        split: Split that decides which models stay: val, never the one that the result is measured on afterwards.
    """
    from vitrail.console import note, table
    from vitrail.errors import UserError
    from vitrail.files import require_free
    from vitrail.loading import load
    from vitrail.report.evaluated import find_split
    from vitrail.terminal.measuring import source_and_folder
    from vitrail.train.averaging import average as averaged
    from vitrail.trainable import require_trainable

    require_free(out)
    if not weights:
        raise UserError("name the models to average, as in vitrail average runs/a runs/b --out FILE")
    held_out = None
    if method == "greedy":
        config, _ = source_and_folder(weights[0], data, out, "")
        first = load(weights[0], device="cpu", allow_pickle=allow_pickle, names=names)
        held_out, _ = find_split(first, config, split)
    result = averaged(weights, held_out, batch_size=batch_size, device=device, allow_pickle=allow_pickle, names=names)
    result.predictor.save(out)
    if as_json:
        found = {"ingredients": list(result.ingredients), "monitor": result.monitor, "score": result.score}
        print_json(found | {"scores": None if result.scores is None else dict(result.scores), "out": str(out)})
    elif result.scores is not None and result.monitor is not None:
        shown = require_trainable(result.predictor.task).metrics().headline(result.monitor)
        rows = [(n, shown.show(v), "yes" if n in result.ingredients else "no") for n, v in result.scores.items()]
        rows.append(("average", shown.show(result.score), ""))
        print(table(("model", f"{shown.label} ({split})", "in the average"), rows))
    note(f"written: {out}, the average of {len(result.ingredients)} of {len(weights)} models")
    name_next("evaluate", out, DATA, "--out", FOLDER, quiet=as_json)
