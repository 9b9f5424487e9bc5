"""The sections of a run's report; what was not recorded or evaluated is left out."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from vitrail.console import duration, printable
from vitrail.generate import Generative
from vitrail.pretrain import Pretraining
from vitrail.report import attention, drawing, page, pretraining, restored
from vitrail.report import training as curves
from vitrail.report.language import say
from vitrail.report.page import Figures, Gallery, Part, Section

if TYPE_CHECKING:
    from vitrail.report.evaluated import EvaluatedModel
    from vitrail.report.figures.tiles import Tile
    from vitrail.report.run_reader import RunReader
    from vitrail.report.subgroups import Subgroups

MAX_CLASS_ROWS = 1000
MAX_CLASSES, OF_A_CLASS = 12, 6  # classes with examples, and examples of each


def summary(run: RunReader, evaluated: EvaluatedModel | None) -> Section:
    """Key numbers."""
    numbers: list[tuple[str, str]] = []
    parts: list[Part] = []
    if evaluated is not None:
        evaluation = evaluated.evaluation
        numbers += evaluated.family.shown(evaluation)
        parameters = sum(p.numel() for p in evaluated.predictor.task.parameters())
        numbers.append((say("parameters"), page.count(parameters)))
        rate = f"{evaluation.images_per_second:,.0f}"
        numbers.append((say("images/s on {device}", device=evaluated.predictor.device.type), rate))
        text = "Evaluated on the {count} images of the {split} split with the released weights."
        parts.append(page.paragraph(say(text, count=f"{len(evaluation.index):,}", split=say(evaluated.split))))
    numbers += training_numbers(run)
    return Section("Summary", [*parts, page.cards(numbers)])


def training(run: RunReader) -> Section:
    """Learning curves."""
    figures = curves.figures(run)
    text = say(
        "The training loss is the one that was minimised: on augmented images, during the epoch, and on another scale "
        "if mixup, label smoothing or binary cross-entropy change it."
    )
    return Section("Training", [page.paragraph(text), Figures(figures)] if figures else [])


def data(run: RunReader, samples: list[Tile]) -> Section:
    """The data set, and a training batch after augmentation."""
    parts: list[Part] = []
    if known := run.dataset:
        rows = [
            (say("source"), known["source"]["spec"]),
            *((say("{split} images", split=say(split)), f"{count:,}") for split, count in known["counts"].items()),
            *([(say(run.outputs), _names(known["classes"]))] if known["classes"] else []),
            (say("SHA-256 of the index"), known["sha256"]),
            (say("unreadable images left out"), len(known["bad_files"])),
        ]
        parts.append(page.table((), rows))
    if samples:
        parts.append(Gallery("training_batch", say("A training batch after augmentation"), samples))
    return Section("Data", parts)


def results(run: RunReader, evaluated: EvaluatedModel, subgroups: Subgroups | None) -> list[Section]:
    """The family's figures with all rows in a table, then example images."""
    if isinstance(evaluated.predictor.task, Generative):
        return drawn(run, evaluated)
    first, *others = (Section(title, [Figures(figures)]) for title, figures in evaluated.figures.items())
    tables = [_all_rows(title, rows) for title, rows in evaluated.evaluation.details.items() if isinstance(rows, list)]
    sections = [Section(first.name, [*first.parts, *tables]), *others]
    if subgroups is not None:
        sections.append(_subgroups(evaluated, subgroups))
    sections += [_mistakes(evaluated), _by_class(evaluated), _attention(evaluated), _restored(evaluated)]
    return [_learning(evaluated), *sections] if isinstance(evaluated.predictor.task, Pretraining) else sections


def drawn(run: RunReader, evaluated: EvaluatedModel) -> list[Section]:
    """What a generative model draws, what it drew while it learned, and its loss."""
    text = say(
        "All drawn by the sampler of the weights file; a model drew them, and no camera. {count} of each class, or in "
        "all where there are none.",
        count=drawing.EACH,
    )
    pictures = Gallery("drawn", say("Drawn pictures"), drawing.pictures(evaluated), wide=True)
    parts = [Section("Drawn pictures", [page.paragraph(text), pictures])]
    if film := drawing.film(run.folder):
        text = say("From the same noise after each evaluation.")
        parts.append(
            Section("While it learned", [page.paragraph(text), Gallery("film", say("Epochs"), film, wide=True)])
        )
    return [*parts, *(Section(title, [Figures(figures)]) for title, figures in evaluated.figures.items())]


def provenance(run: RunReader) -> list[Section]:
    """Config, environment, and the commands to repeat the training."""
    config = yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True)
    sections = [Section("Config", [page.folded(say("config.yaml, every auto resolved"), page.code(config))])]
    if run.environment:
        sections.append(Section("Environment", [page.table((), page.flat(run.environment))]))
    if run.commands:
        text = say(
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
    if run.pretrained:
        kind = say("Pretraining by {task} on {data}", task=task, data=data)
    else:
        kind = say("{task} on {data}", task=say(task.capitalize().replace("_", " ")), data=data)
    text = "ViT {dim} wide, {depth} deep, {patch} patches of {size} images"
    return f"{kind} · {say(text, dim=model['dim'], depth=model['depth'], patch=patch, size=size)}"


def training_numbers(run: RunReader) -> list[tuple[str, str]]:
    """Number of epochs and training time: the command's, or where it was not recorded that of the steps."""
    history = run.history
    numbers = [(say("epochs"), f"{int(history['epoch'][-1])}")] if "epoch" in history else []
    if (seconds := run.summary.get("command_seconds")) is not None:
        numbers.append((say("training time"), duration(seconds)))
    elif "seconds" in history:
        numbers.append((say("time of the training steps"), duration(float(history["seconds"].sum()))))
    return numbers


def _all_rows(title: str, rows: list[dict[str, Any]]) -> page.Text:
    shown = sorted(rows, key=lambda row: row.get("f1", 0))[:MAX_CLASS_ROWS]
    table = page.table([say(name) for name in rows[0]], [list(row.values()) for row in shown])
    return page.folded(say("Table of {count} {rows}", count=f"{len(shown):,}", rows=say(title)), table)


def _subgroups(evaluated: EvaluatedModel, groups: Subgroups) -> Section:
    text = "The images by the column {column} of {file}; the interval holds the share of right ones with 95 %."
    note = page.paragraph(say(text, column=groups.column, file=groups.file.name))
    columns, rows = groups.table(evaluated)
    return Section("Subgroups", [note, page.table([say(name) for name in columns], rows)])


def _mistakes(evaluated: EvaluatedModel) -> Section:
    wrong, right = ([evaluated.tile(row) for row in rows] for rows in (evaluated.mistakes(), evaluated.examples()))
    parts: list[Part] = []
    wide = evaluated.spatial
    if wrong:
        what = say("Worst mistakes: truth next to prediction, highest loss first")
        heading = what if wide else say("Worst mistakes: true → predicted, highest loss first")
        parts.append(Gallery("worst_mistakes", heading, wrong, wide))
    if right:
        parts.append(Gallery("right", say("Right, picked at random"), right, wide))
    return Section("Mistakes" if wrong else "Examples", parts)


def _by_class(evaluated: EvaluatedModel) -> Section:
    """Of each class some mistakes, highest loss first, then images that are right; of many classes the weakest."""
    classes = evaluated.evaluation.details.get("classes")
    if evaluated.spatial or not classes or "true" not in evaluated.columns:
        return Section("Examples by class", [])
    rows: dict[object, list[int]] = defaultdict(list)
    for row in [*evaluated.mistakes(len(evaluated.worst_first)), *evaluated.examples(len(evaluated.worst_first))]:
        rows[evaluated.columns["true"][row]].append(row)
    weakest = sorted(classes, key=lambda each: each.get("f1", 0))[:MAX_CLASSES]
    names = [each["name"] for each in weakest if rows[each["name"]]]
    tiles = {name: [evaluated.tile(row) for row in _halves(evaluated, rows[name])] for name in names}
    parts = [Gallery(f"class_{place}", printable(name), tiles[name]) for place, name in enumerate(names)]
    return Section("Examples by class", parts)


def _halves(evaluated: EvaluatedModel, rows: list[int]) -> list[int]:
    """Half mistakes and half right ones, more of the one where there are few of the other."""
    wrong = [row for row in rows if not evaluated.family.caption(evaluated.evaluation, row).right]
    right = rows[len(wrong) :]
    num_right = min(len(right), max(OF_A_CLASS // 2, OF_A_CLASS - len(wrong)))
    return wrong[: OF_A_CLASS - num_right] + right[:num_right]


def _learning(evaluated: EvaluatedModel) -> Section:
    titles, strips = pretraining.strips(evaluated)
    return Section("What it learns", [Gallery("learning", titles, strips, wide=True)])


def _attention(evaluated: EvaluatedModel) -> Section:
    in_own_size = evaluated.predictor.preprocess.config.resize == "none"  # of too many patches for maps between them
    if in_own_size or not len(evaluated.drawable):
        return Section("Attention", [])
    rollout = say(
        "Next to each image, how much each patch reached the output through all layers (attention rollout, "
        "Abnar & Zuidema 2020)."
    )
    evidence = "gradcam" in attention.methods(evaluated)
    gradcam = say("Then where the evidence for the prediction lies (Grad-CAM, Selvaraju et al. 2017).")
    learned = say("Below, what the layers learned (figure 7 of Dosovitskiy et al. 2021).")
    text = " ".join([rollout, *([gradcam] if evidence else []), learned])
    heading = say("Image, rollout, Grad-CAM" if evidence else "Image, rollout")
    parts: list[Part] = [page.paragraph(text), Gallery("attention", heading, attention.strips(evaluated), wide=True)]
    if pairs := attention.pairs(evaluated):
        features = say(
            "Two images on top of each other. In the middle, the first three principal components of the upper image's "
            "patch features as colours: like colours are alike to the model, in both images. On the right, how alike "
            "each patch is to the marked one (cosine)."
        )
        parts += [
            page.paragraph(features),
            Gallery("patches", say("Image, colours, similar patches"), pairs, wide=True),
        ]
    return Section("Attention", [*parts, Figures(attention.anatomy(evaluated), wide=True)])


def _restored(evaluated: EvaluatedModel) -> Section:
    if not restored.suits(evaluated):
        return Section("Pixels used", [])
    text = say(
        "A part of a picture; what the region in its middle was made of when the part was restored (local attribution, "
        "Gu & Dong 2021); and where eight turned and mirrored views of the part were restored differently."
    )
    heading = say("Picture, pixels used, disagreement of views")
    return Section(
        "Pixels used", [page.paragraph(text), Gallery("used", heading, restored.strips(evaluated), wide=True)]
    )


def _names(names: list[str]) -> str:
    shown = ", ".join(printable(name) for name in names[:12])
    return f"{len(names):,}: {shown}" + (", …" if len(names) > 12 else "")


def _size(value: list[int]) -> str:
    return "×".join(map(str, value))
