"""What a probe found: every setting of every draw of labels, and what is made of them."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from statistics import fmean, stdev
from typing import Any

from vitrail.metrics.confidence import student, wilson


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
    """What a method made of some labelled features: at least one setting, and notes for the user."""

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

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        trials = [
            {
                "seed": trial.seed,
                "labels": trial.num_labels,
                **trial.outcome.best.values,
                "val": trial.outcome.best.val,
                "test": trial.outcome.best.test,
                "settings": [{**s.values, "val": s.val, "test": s.test} for s in trial.outcome.settings],
            }
            for trial in self.trials
        ]
        return {
            "layer": self.layer,
            "share": self.share,
            "accuracy": self.accuracy,
            "std": self.std,
            "interval": list(self.interval),
            "spread": self.spread if math.isfinite(self.spread) else None,
            "trials": trials,
        }


@dataclass(frozen=True)
class Result:
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
    options: dict[str, Any]
    protocol: dict[str, Any]
    scores: tuple[Score, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        about = {field.name: getattr(self, field.name) for field in fields(self)}
        return about | {"scores": [score.to_dict() for score in self.scores]}
