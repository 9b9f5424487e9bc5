"""Cross-validation: one training for each fold, and the mean of what they reach on the images held out of each.

::

    result = cross_validate(run, "runs/birds", folds=5)
    result.mean("top1"), result.interval("top1")
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev

from vitrail import files
from vitrail.config import override
from vitrail.errors import UserError
from vitrail.metrics import Headline
from vitrail.metrics.confidence import student
from vitrail.train.folder import RunFolder
from vitrail.train.loop import fit
from vitrail.train.run import Run


@dataclass(frozen=True)
class CrossValidation:
    """What the best weights of each fold reach on the images held out of it, by metric."""

    folders: tuple[Path, ...]
    metrics: dict[str, tuple[float, ...]]

    def mean(self, metric: str) -> float:
        """The mean over the folds."""
        return fmean(self.metrics[metric])

    def deviation(self, metric: str) -> float:
        """The standard deviation between folds."""
        return stdev(self.metrics[metric])

    def interval(self, metric: str) -> tuple[float, float]:
        """Of the mean, by Student's t at 95 %. Folds share training images, so it is narrower than that of new data
        (Bengio & Grandvalet 2004)."""
        return student(self.metrics[metric])

    def row(self, metric: str, headline: Headline) -> tuple[str, str, str, str]:
        """Label, mean, standard deviation and interval of a metric, as text."""
        low, high = (headline.show(end) for end in self.interval(metric))
        numbers = headline.show(self.mean(metric)), headline.show(self.deviation(metric))
        return headline.label, *numbers, f"{low} to {high}"

    def save(self, path: Path) -> None:
        """Write all numbers as JSON."""
        means = {metric: {"mean": self.mean(metric), "deviation": self.deviation(metric)} for metric in self.metrics}
        folds = [
            {"folder": str(folder), **{metric: values[place] for metric, values in self.metrics.items()}}
            for place, folder in enumerate(self.folders)
        ]
        files.write_json(path, {"metrics": means, "folds": folds})


def cross_validate(run: Run, folder: str | Path, *, folds: int) -> CrossValidation:
    """Train ``run`` on all but each of the folds of its training split, in ``folder``/fold-1 and so on; a fold that is
    complete there is not trained again. With groups or times in the run's source, the folds respect them.

    Raises:
        UserError: as :func:`vitrail.fit`; a training that was interrupted, which the same call continues.
    """
    places = [Path(folder) / f"fold-{fold}" for fold in range(1, folds + 1)]
    for fold, place in enumerate(places, start=1):
        own = override(run, {"data.source.folds": folds, "data.source.fold": fold})
        if not complete(place) and fit(own, place).exit_code:
            raise UserError(f"{place} was interrupted; the same call continues it")
    return summarise(places)


def complete(folder: Path) -> bool:
    """Whether the training of a fold is done."""
    return RunFolder(folder).read_summary() is not None


def summarise(folders: Sequence[Path]) -> CrossValidation:
    """The validation metrics of complete folds that all of them have."""
    found = [(RunFolder(folder).read_summary() or {}).get("metrics", {}) for folder in folders]
    names = [name for name in found[0] if all(_finite(metrics.get(name)) for metrics in found)]
    return CrossValidation(tuple(folders), {name: tuple(metrics[name] for metrics in found) for name in names})


def _finite(value: object) -> bool:
    return isinstance(value, float | int) and math.isfinite(value)
