"""The report of a run: plots, one offline HTML page, a model card, from the files in its folder."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from vitrail import files
from vitrail.console import warn
from vitrail.errors import UserError

if TYPE_CHECKING:
    from vitrail.report.measured import Measured
    from vitrail.report.record import Record

T = TypeVar("T")


def write(folder: str | Path, *, split: str | None = None, device: str = "auto") -> Path:
    """Measure the best weights, and write plots/, evaluation/, model_card.md and report.html; returns the last.

    Where data or weights are gone, a warning says so, and the report shows what the other files hold.

    Args:
        split: to measure on; default: test where there is one, else val.

    Raises:
        UserError: ``folder`` holds no run.
    """
    from vitrail.report import model_card, page, sections, style, training
    from vitrail.report.record import Record

    record = Record(Path(folder))
    measured = _unless_gone(lambda: _measure(record, split, device), "the results")
    samples = _unless_gone(lambda: training.samples(record), "the training batch")
    parts = [
        sections.summary(record, measured),
        sections.training(record),
        sections.data(record, samples or []),
        *(sections.results(measured) if measured else []),
        *sections.provenance(record),
    ]
    parts = [section for section in parts if section.parts]

    for name, figure in (each for section in parts for each in section.plots()):
        style.save_png(figure, record.folder / "plots" / f"{name}.png")
    if measured is not None:
        measured.save(record.folder / "evaluation", measured.split)
    files.write_text(record.folder / "model_card.md", model_card.render(record, measured))
    html = page.render(record.name, sections.subtitle(record), parts, str(record.folder))
    files.write_text(record.folder / "report.html", html)
    return record.folder / "report.html"


def _measure(record: Record, split: str | None, device: str) -> Measured:
    from vitrail import predictor
    from vitrail.report.measured import measure

    model = predictor.load(record.folder, device=device)
    return measure(model, record.data.source, split)


def _unless_gone(make: Callable[[], T], what: str) -> T | None:
    """What ``make`` gives, or nothing and a warning where its files cannot be used any more."""
    try:
        return make()
    except UserError as error:
        warn(f"the report goes without {what}: {error}")
        return None
