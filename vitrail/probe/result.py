"""The result of a probe: every setting of every draw of labels, and statistics of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from statistics import fmean, stdev

from vitrail.metrics.confidence import student, wilson
from vitrail.results import Column, ResultTable, Tabular


@dataclass(frozen=True)
class Setting:
    """One setting of a method, such as ``{"lr": 0.1, "weight_decay": 0.0}``, with its accuracies.

    Attributes:
        val_loss: decides between settings that are equally accurate on the validation split.
    """

    values: dict[str, float]
    val: float
    test: float
    val_loss: float = 0.0


@dataclass(frozen=True)
class Outcome:
    """What a method found on some labelled features: at least one setting, and notes for the user."""

    settings: tuple[Setting, ...]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> Setting:
        """The most accurate setting on the validation split; among equals the one of lower loss, then the first."""
        return max(self.settings, key=lambda each: (each.val, -each.val_loss))


@dataclass(frozen=True)
class Trial:
    """A method on one draw of labels."""

    seed: int
    num_labels: int
    outcome: Outcome

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        best = self.outcome.best
        return {
            "seed": self.seed,
            "labels": self.num_labels,
            **best.values,
            "val": best.val,
            "test": best.test,
            "settings": [{**s.values, "val": s.val, "test": s.test} for s in self.outcome.settings],
        }


@dataclass(frozen=True)
class Score:
    """The accuracy of a layer with a share of the labels.

    Attributes:
        layer: 0 is the first block.
        trials: one a seed; with all labels there is nothing to draw, and one trial.
        num_test: images measured on.
        spread: of the layer's features (:func:`vitrail.metrics.representation.feature_std`).
    """

    layer: int
    share: float
    trials: tuple[Trial, ...]
    num_test: int
    spread: float

    @property
    def accuracies(self) -> list[float]:
        """On the measured split, of the setting that each trial chose."""
        return [trial.outcome.best.test for trial in self.trials]

    @property
    def accuracy(self) -> float:
        """Their mean."""
        return fmean(self.accuracies)

    @property
    def std(self) -> float | None:
        """Their standard deviation (n − 1); of one trial None."""
        return stdev(self.accuracies) if len(self.trials) > 1 else None

    @property
    def interval(self) -> tuple[float, float]:
        """95 %: of the mean over draws of labels by Student's t, of one trial over draws of test images by Wilson."""
        if len(self.trials) == 1:
            return wilson(self.accuracy, self.num_test)
        low, high = student(self.accuracies)
        return max(0.0, low), min(1.0, high)

    @property
    def chosen(self) -> list[str]:
        """The settings that the trials chose, each once, in words; what no setting varies goes unsaid."""
        tried = [setting.values for trial in self.trials for setting in trial.outcome.settings]
        names = [name for name in tried[0] if len({each[name] for each in tried}) > 1] or [*tried[0]][:1]
        best = [trial.outcome.best.values for trial in self.trials]
        return list(dict.fromkeys(", ".join(f"{name} {each[name]:g}" for name in names) for each in best))

    @property
    def interval_text(self) -> str:
        """The interval in percent."""
        low, high = self.interval
        return f"{low:.2%} to {high:.2%}"


@dataclass(frozen=True, repr=False)
class Result(Tabular):
    """A probe of some layers with some shares of the labels.

    Attributes:
        options, protocol: as they were used.
        pool: ``cls``, ``mean`` or ``cls_mean``; ``patches`` where the method takes the tokens.
        images: counts by role: ``train``, ``val`` (chooses settings), ``test`` (measured on).
    """

    method: str
    data: str
    split: str
    pool: str
    images: dict[str, int]
    options: dict[str, object]
    protocol: dict[str, object]
    scores: tuple[Score, ...]

    @property
    def table(self) -> ResultTable[Score]:
        """The scores as text and as JSON; deviations are shown where labels were drawn several times."""
        drawn = any(score.std is not None for score in self.scores)
        columns: tuple[Column[Score], ...] = (
            Column(lambda score: score.layer, "layer", "layer"),
            Column(lambda score: score.share, key="share"),
            Column(lambda score: 100 * score.share, "share", format="{:g} %"),
            Column(lambda score: score.trials[0].num_labels, "labels", format="{:,}"),
            Column(lambda score: score.accuracy, f"top-1 accuracy on {self.split}", "accuracy", format="{:.2%}"),
            Column(lambda score: score.std, "std" if drawn else "", "std", format="{:.2%}", missing=""),
            Column(lambda score: list(score.interval), key="interval"),
            Column(lambda score: score.interval_text, "95 % interval"),
            Column(lambda score: score.spread if math.isfinite(score.spread) else None, key="spread"),
            Column(lambda score: " or ".join(score.chosen), "chosen"),
            Column(lambda score: [trial.to_dict() for trial in score.trials], key="trials"),
        )
        return ResultTable(columns, self.scores)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        about = {field.name: getattr(self, field.name) for field in fields(self)}
        return about | {"scores": self.table.to_dict()}
