"""The report of a run: plots, one offline HTML page and a model card, from the files in its folder."""

from __future__ import annotations

import html
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vitrail import files
from vitrail.console import warn
from vitrail.errors import UserError
from vitrail.registry import submodules
from vitrail.report.language import Language, written_in

if TYPE_CHECKING:
    from vitrail.report.evaluated import EvaluatedModel
    from vitrail.report.run_reader import RunReader

T = TypeVar("T")


class ReportPath(type(Path())):  # type: ignore[misc]  # a Path is of another class on each system
    """The path of a page, which a notebook shows."""

    def _repr_html_(self) -> str:
        page = html.escape(self.read_text(encoding="utf-8"))
        return f'<iframe srcdoc="{page}" style="width: 100%; height: 40em; border: 0"></iframe>'


def write(
    folder: str | Path,
    *,
    split: str | None = None,
    device: str = "auto",
    language: Language = "en",
    subgroups: str | None = None,
) -> ReportPath:
    """Evaluate the best weights, and write plots/, evaluation/, model_card.md and report.html; returns the last.

    If data or weights are missing, a warning is printed, and the report shows the contents of the other files.

    Args:
        split: to evaluate on; default: test if there is one, else val.
        language: of the page and the plots; the model card is English.
        subgroups: a column of the run's table, or ``table.csv:column``, by whose values the images are measured apart.

    Raises:
        UserError: ``folder`` holds no run, or there is no such column.
    """
    with written_in(language):
        return _write(Path(folder), split, device, subgroups)


def _write(folder: Path, split: str | None, device: str, column: str | None) -> ReportPath:
    from vitrail.report import model_card, page, sections, style, subgroups, training
    from vitrail.report.run_reader import RunReader

    run = RunReader(folder)
    groups = None if column is None else subgroups.read(column, run.data.source)
    evaluated = _or_warn(lambda: _measure(run, split, device), "the results")
    samples = _or_warn(lambda: training.samples(run), "the training batch")
    parts = [
        sections.summary(run, evaluated),
        sections.training(run),
        sections.data(run, samples or []),
        *(sections.results(run, evaluated, groups) if evaluated else []),
        *sections.provenance(run),
    ]
    parts = [section for section in parts if section.parts]

    for name, figure in (each for section in parts for each in section.plots()):
        style.save_png(figure, run.folder / "plots" / f"{name}.png")
    if evaluated is not None:
        evaluated.save(run.folder / "evaluation", evaluated.split)
    with written_in("en"):
        files.write_text(run.folder / "model_card.md", model_card.render(run, evaluated))
    text = page.render(run.name, sections.subtitle(run), parts, str(run.folder))
    files.write_text(run.folder / "report.html", text)
    return ReportPath(run.folder / "report.html")


def _measure(run: RunReader, split: str | None, device: str) -> EvaluatedModel:
    from vitrail import loading
    from vitrail.report.evaluated import measure

    model = loading.load(run.folder, device=device)
    return measure(model, run.data.source, split)


def _or_warn(make: Callable[[], T], what: str) -> T | None:
    """What ``make`` returns, or None and a warning if its files cannot be used any more."""
    try:
        return make()
    except UserError as error:
        warn(f"the report goes without {what}: {error}")
        return None


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
