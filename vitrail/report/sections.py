"""The sections of a run's report; what was not recorded or evaluated is left out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vitrail.console import duration, printable
from vitrail.pretrain import Pretraining
from vitrail.report import attention, page, pretraining
from vitrail.report import training as curves
from vitrail.report.page import Figures, Gallery, Part, Section

if TYPE_CHECKING:
    from vitrail.report.evaluated import EvaluatedModel
    from vitrail.report.figures.tiles import Tile
    from vitrail.report.run_reader import RunReader

MAX_CLASS_ROWS = 1000


def summary(run: RunReader, evaluated: EvaluatedModel | None) -> Section:
    """Key numbers."""
    numbers: list[tuple[str, str]] = []
    parts = []
    if evaluated is not None:
        metrics, evaluation = evaluated.evaluation.metrics, evaluated.evaluation
        numbers += [(line.label, line.show(metrics[name])) for name, line in evaluated.family.headlines.items()]
        parameters = sum(p.numel() for p in evaluated.predictor.task.parameters())
        numbers.append(("parameters", page.count(parameters)))
        rate = f"{evaluation.images_per_second:,.0f}"
        numbers.append((f"images/s on {evaluated.predictor.device.type}", rate))
        images = f"{len(evaluation.index):,} images of the {evaluated.split} split"
        parts.append(page.paragraph(f"Evaluated on the {images} with the released weights."))
    numbers += training_numbers(run)
    return Section("Summary", [*parts, page.cards(numbers)])


def training(run: RunReader) -> Section:
    """Learning curves."""
    figures = curves.figures(run)
    text = (
        "The training loss is the one that was minimised: on augmented images, during the epoch, and on another scale "
        "if mixup, label smoothing or binary cross-entropy change it."
    )
    return Section("Training", [page.paragraph(text), Figures(figures)] if figures else [])


def data(run: RunReader, samples: list[Tile]) -> Section:
    """The data set, and a training batch after augmentation."""
    parts: list[Part] = []
    if known := run.dataset:
        rows = [
            ("source", known["source"]["spec"]),
            *((f"{split} images", f"{count:,}") for split, count in known["counts"].items()),
            (run.outputs, _names(known["classes"])),
            ("SHA-256 of the index", known["sha256"]),
            ("unreadable images left out", len(known["bad_files"])),
        ]
        parts.append(page.table((), rows))
    if samples:
        parts.append(Gallery("training_batch", "A training batch after augmentation", samples))
    return Section("Data", parts)


def results(evaluated: EvaluatedModel) -> list[Section]:
    """The family's figures with all rows in a table, then example images."""
    first, *others = (Section(title, [Figures(figures)]) for title, figures in evaluated.figures.items())
    tables = [_all_rows(title, rows) for title, rows in evaluated.evaluation.details.items() if isinstance(rows, list)]
    sections = [Section(first.title, [*first.parts, *tables]), *others, _mistakes(evaluated), _attention(evaluated)]
    return [_learning(evaluated), *sections] if isinstance(evaluated.predictor.task, Pretraining) else sections


def provenance(run: RunReader) -> list[Section]:
    """Config, environment, and the commands to repeat the training."""
    config = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    sections = [Section("Config", [page.folded("config.yaml, every auto resolved", page.code(config))])]
    if run.environment:
        sections.append(Section("Environment", [page.table((), page.flat(run.environment))]))
    if run.commands:
        text = (
            "The commands as they were given, one line per session; the config above and its seed determine the rest."
        )
        sections.append(Section("Reproduce", [page.paragraph(text), page.code("\n".join(run.commands))]))
    return sections


def subtitle(run: RunReader) -> str:
    """Task, data and model in one line."""
    model = run.config["model"]
    patch, size = (_size(model[key]) for key in ("patch_size", "image_size"))
    data = Path(run.config["data"]["source"]["spec"]).name
    task = run.task.rpartition(".")[2]
    kind = f"Pretraining by {task} on {data}" if run.pretrained else f"{task.capitalize()} on {data}"
    return f"{kind} · ViT {model['dim']} wide, {model['depth']} deep, {patch} patches of {size} images"


def training_numbers(run: RunReader) -> list[tuple[str, str]]:
    """Number of epochs and training time."""
    history = run.history
    numbers = [("epochs", f"{int(history['epoch'][-1])}")] if "epoch" in history else []
    if "seconds" in history:
        numbers.append(("training time", duration(float(history["seconds"].sum()))))
    return numbers


def _all_rows(title: str, rows: list[dict[str, Any]]) -> str:
    shown = sorted(rows, key=lambda row: row.get("f1", 0))[:MAX_CLASS_ROWS]
    table = page.table(list(rows[0]), [list(row.values()) for row in shown])
    return page.folded(f"Table of {len(shown):,} {title}", table)


def _mistakes(evaluated: EvaluatedModel) -> Section:
    wrong, right = ([evaluated.tile(row) for row in rows] for rows in (evaluated.mistakes(), evaluated.examples()))
    parts: list[Part] = []
    wide = evaluated.spatial
    if wrong:
        heading = "truth next to prediction" if wide else "true → predicted"
        parts.append(Gallery("worst_mistakes", f"Worst mistakes: {heading}, highest loss first", wrong, wide))
    if right:
        parts.append(Gallery("right", "Right, picked at random", right, wide))
    return Section("Mistakes" if wrong else "Examples", parts)


def _learning(evaluated: EvaluatedModel) -> Section:
    titles, strips = pretraining.strips(evaluated)
    return Section("What it learns", [Gallery("learning", titles, strips, wide=True)])


def _attention(evaluated: EvaluatedModel) -> Section:
    evidence = "gradcam" in attention.methods(evaluated)
    text = (
        "Next to each image, how much each patch reached the output through all layers (attention rollout, "
        "Abnar & Zuidema 2020)"
        + (" and where the evidence for the prediction lies (Grad-CAM, Selvaraju et al. 2017)" if evidence else "")
        + ". Below, what the layers learned (figure 7 of Dosovitskiy et al. 2021)."
    )
    heading = "Image, rollout, Grad-CAM" if evidence else "Image, rollout"
    strips = Gallery("attention", heading, attention.strips(evaluated), wide=True)
    return Section("Attention", [page.paragraph(text), strips, Figures(attention.anatomy(evaluated), wide=True)])


def _names(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:12])
    return f"{len(names):,}: {shown}" + (", …" if len(names) > 12 else "")


def _size(value: list[int]) -> str:
    return f"{value[0]}×{value[1]}"
