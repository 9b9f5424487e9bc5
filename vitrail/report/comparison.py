"""Several runs on one page: their numbers, their curves, and what was set differently."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vitrail import files
from vitrail.report import page, sections, training
from vitrail.report.figures.curves import learning_curve
from vitrail.report.language import say
from vitrail.report.page import Figures, Section
from vitrail.report.run_reader import RunReader


def compare(folders: Sequence[Path], target: Path) -> Path:
    """Write the page at ``target`` from the run folders' files; no model is loaded. Returns ``target``.

    Raises:
        UserError: a folder that holds no run.
    """
    runs = {_label(folder, folders): RunReader(folder) for folder in folders}
    parts = [
        Section("Results", [page.table(*_results(runs))]),
        Section("Curves", [Figures(_curves(runs))]),
        Section("Settings", [page.paragraph(say("Where the runs differ.")), page.table(*_differences(runs))]),
    ]
    title = say("{count} runs compared", count=len(runs))
    files.write_text(target, page.render(title, ", ".join(runs), parts, ", ".join(map(str, folders))))
    return target


def _label(folder: Path, folders: Sequence[Path]) -> str:
    """The folder's name, or its path where two runs share a name."""
    names = [each.resolve().name for each in folders]
    return str(folder) if names.count(folder.resolve().name) > 1 else folder.resolve().name


def _results(runs: dict[str, RunReader]) -> tuple[list[str], list[list[Any]]]:
    """One row per run: the monitored metric and the loss, on test if it was evaluated and on val, size and time."""
    rows: list[dict[str, Any]] = []
    for name, run in runs.items():
        summary, watched = run.summary, training.monitored(run)[0] or "knn"
        row: dict[str, Any] = {say("run"): name}
        for split, metrics in (("test", _test_metrics(run)), ("val", summary.get("metrics", {}))):
            row |= {
                training.in_words(run, f"{split}_{key}"): training.headline(run, key).show(metrics[key])
                for key in (watched, "loss")
                if key in metrics
            }
        row[say("epochs")] = summary.get("epochs", len(run.history.get("epoch", ())))
        row[say("parameters")] = page.count(summary["parameters"]) if "parameters" in summary else "–"
        row |= dict(numbers[-1:]) if (numbers := sections.training_numbers(run)) else {}
        rows.append(row)
    columns = list(dict.fromkeys(key for row in rows for key in row))
    return columns, [[row.get(column, "–") for column in columns] for row in rows]


def _test_metrics(run: RunReader) -> dict[str, float]:
    path = run.folder / "evaluation" / "test.json"
    metrics = files.read_json(path).get("metrics", {}) if path.is_file() else {}
    return {key: value for key, value in metrics.items() if value is not None}


def _curves(runs: dict[str, RunReader]) -> dict[str, Any]:
    """One figure per important column of metrics.csv, a line per run."""
    monitors = dict.fromkeys(f"val_{training.monitored(run)[0]}" for run in runs.values())
    figures = {}
    for column in (*monitors, "val_loss", "train_loss", "lr"):
        measured = {name: curve for name, run in runs.items() if (curve := run.curve(column)) is not None}
        if measured:
            first, metric = next(iter(runs.values())), column.partition("_")[2]
            form = training.headline(first, metric).form
            figures[column] = learning_curve(training.in_words(first, column), measured, form=form)
    return figures


def _differences(runs: dict[str, RunReader]) -> tuple[list[str], list[list[str]]]:
    """One row per setting that differs."""
    flat = [dict(page.flat(run.config, ".")) for run in runs.values()]
    settings = dict.fromkeys(key for each in flat for key in each)
    values = {key: [each.get(key, "–") for each in flat] for key in settings}
    return [say("setting"), *runs], [[key, *row] for key, row in values.items() if len(set(row)) > 1]
