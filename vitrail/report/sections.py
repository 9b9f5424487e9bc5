"""The sections of a run's report, each made of what is there: a run that was never evaluated has fewer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vitrail import registry
from vitrail.console import duration, printable
from vitrail.pretrain import Pretraining
from vitrail.report import attention, page, pretraining
from vitrail.report import training as curves
from vitrail.report.page import Figures, Gallery, Part, Section

if TYPE_CHECKING:
    from vitrail.report.figures.tiles import Tile
    from vitrail.report.measured import Measured
    from vitrail.report.record import Record

MAX_CLASS_ROWS = 1000


def summary(record: Record, measured: Measured | None) -> Section:
    """Key numbers."""
    numbers: list[tuple[str, str]] = []
    parts = []
    if measured is not None:
        metrics, evaluation = measured.evaluation.metrics, measured.evaluation
        numbers += [(line.label, line.show(metrics[name])) for name, line in measured.family.HEADLINES.items()]
        parameters = sum(p.numel() for p in measured.predictor.task.parameters())
        numbers.append(("parameters", page.count(parameters)))
        rate = f"{evaluation.images_per_second:,.0f}"
        numbers.append((f"images/s on {measured.predictor.device.type}", rate))
        images = f"{len(evaluation.index):,} images of the {measured.split} split"
        parts.append(page.paragraph(f"Measured on the {images} with the released weights."))
    numbers += training_numbers(record)
    return Section("Summary", [*parts, page.cards(numbers)])


def training(record: Record) -> Section:
    """Learning curves."""
    figures = curves.figures(record)
    text = (
        "The training loss is the one that was minimised: on augmented images, while the model still learned, and on "
        "another scale where mixup, label smoothing or binary cross-entropy change it."
    )
    return Section("Training", [page.paragraph(text), Figures(figures)] if figures else [])


def data(record: Record, samples: list[Tile]) -> Section:
    """What was learned from, and how it looked to the model."""
    parts: list[Part] = []
    if known := record.dataset:
        rows = [
            ("source", known["source"]["spec"]),
            *((f"{split} images", f"{count:,}") for split, count in known["counts"].items()),
            ("targets" if known["kind"] == "number" else "classes", _names(known["classes"])),
            ("SHA-256 of the index", known["sha256"]),
            ("unreadable images left out", len(known["bad_files"])),
        ]
        parts.append(page.table((), rows))
    if samples:
        parts.append(Gallery("training_batch", "A training batch after augmentation", samples))
    return Section("Data", parts)


def results(measured: Measured) -> list[Section]:
    """The family's figures with all rows in a table, then the images themselves."""
    first, *others = (Section(title, [Figures(figures)]) for title, figures in measured.figures.items())
    tables = [_all_rows(title, rows) for title, rows in measured.evaluation.details.items() if isinstance(rows, list)]
    sections = [Section(first.title, [*first.parts, *tables]), *others, _mistakes(measured), _attention(measured)]
    return [_learning(measured), *sections] if isinstance(measured.predictor.task, Pretraining) else sections


def provenance(record: Record) -> list[Section]:
    """Config, environment, and how to do it again."""
    config = yaml.safe_dump(record.config, sort_keys=False, allow_unicode=True)
    sections = [Section("Config", [page.folded("config.yaml, every auto resolved", page.code(config))])]
    if record.environment:
        sections.append(Section("Environment", [page.table((), page.flat(record.environment))]))
    if record.commands:
        text = "The commands as they were given, one line a session; the config above and its seed decide the rest."
        sections.append(Section("Reproduce", [page.paragraph(text), page.code("\n".join(record.commands))]))
    return sections


def subtitle(record: Record) -> str:
    """The model in a line."""
    model = record.config["model"]
    patch, size = (_size(model[key]) for key in ("patch_size", "image_size"))
    task, data = record.config["task"], Path(record.config["data"]["source"]["spec"]).name
    kind = (
        f"Pretraining by {task} on {data}" if task in registry.names("pretrain") else f"{task.capitalize()} on {data}"
    )
    return f"{kind} · ViT {model['dim']} wide, {model['depth']} deep, {patch} patches of {size} images"


def training_numbers(record: Record) -> list[tuple[str, str]]:
    """How long it learned."""
    history = record.history
    numbers = [("epochs", f"{int(history['epoch'][-1])}")] if "epoch" in history else []
    if "seconds" in history:
        numbers.append(("training time", duration(float(history["seconds"].sum()))))
    return numbers


def _all_rows(title: str, rows: list[dict[str, Any]]) -> str:
    shown = sorted(rows, key=lambda row: row.get("f1", 0))[:MAX_CLASS_ROWS]
    table = page.table(list(rows[0]), [list(row.values()) for row in shown])
    return page.folded(f"Table of {len(shown):,} {title}", table)


def _mistakes(measured: Measured) -> Section:
    wrong, right = ([measured.tile(row) for row in rows] for rows in (measured.mistakes(), measured.examples()))
    parts: list[Part] = []
    wide = measured.draws_places
    if wrong:
        heading = "truth beside prediction" if wide else "true → predicted"
        parts.append(Gallery("worst_mistakes", f"Worst mistakes: {heading}, highest loss first", wrong, wide))
    if right:
        parts.append(Gallery("right", "Right, picked at random", right, wide))
    return Section("Mistakes" if wrong else "Examples", parts)


def _learning(measured: Measured) -> Section:
    titles, strips = pretraining.strips(measured)
    return Section("What it learns", [Gallery("learning", titles, strips, wide=True)])


def _attention(measured: Measured) -> Section:
    evidence = "gradcam" in attention.methods(measured)
    text = (
        "Beside each image, how much each patch reached the output through all layers (attention rollout, "
        "Abnar & Zuidema 2020)"
        + (" and where the evidence for the prediction lies (Grad-CAM, Selvaraju et al. 2017)" if evidence else "")
        + ". Below, what the layers learned (figure 7 of Dosovitskiy et al. 2021)."
    )
    heading = "Image, rollout, Grad-CAM" if evidence else "Image, rollout"
    strips = Gallery("attention", heading, attention.strips(measured), wide=True)
    return Section("Attention", [page.paragraph(text), strips, Figures(attention.anatomy(measured), wide=True)])


def _names(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:12])
    return f"{len(names):,}: {shown}" + (", …" if len(names) > 12 else "")


def _size(value: list[int]) -> str:
    return f"{value[0]}×{value[1]}"
