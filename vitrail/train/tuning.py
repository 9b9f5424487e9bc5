"""A search over the settings of a training: one training for each trial, the best by the task's monitor.

::

    result = tune(run, "runs/search", {"optimizer.lr": "1e-5..1e-2:log"}, num_trials=20)
    result.best.settings

What proposes the settings is a :class:`Search`: Optuna's (Akiba et al. 2019) unless another one is given.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

from vitrail import files, registry
from vitrail.build import REGISTRIES
from vitrail.config import override, read_scalar
from vitrail.console import note, warn
from vitrail.errors import UserError
from vitrail.metrics import mode_of
from vitrail.train.folder import RunFolder
from vitrail.train.loop import fit
from vitrail.train.opening import open_run
from vitrail.train.run import Run

TRIALS = "trials.json"


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included; integers if both are; ``log``: evenly by their logarithm."""

    low: float
    high: float
    log: bool = False

    @property
    def whole(self) -> bool:
        """Whether only integers are meant."""
        return isinstance(self.low, int) and isinstance(self.high, int)


@dataclass(frozen=True)
class Choices:
    """One of several values."""

    values: tuple[str | int | float | bool | None, ...]


Space: TypeAlias = Mapping[str, Range | Choices]
"""What each setting may be, by its path in the run."""
Settings: TypeAlias = dict[str, Any]


class Search(Protocol):
    """What proposes settings."""

    def ask(self) -> Settings:
        """The settings of the next trial."""

    def tell(self, settings: Settings, value: float | None) -> None:
        """What settings have reached, also such that it did not propose; None: their training failed."""


@dataclass(frozen=True)
class Trial:
    """A training of a search; ``value`` is its monitor's best, None if it has failed or is not done."""

    settings: Settings
    folder: str
    value: float | None = None
    done: bool = False


@dataclass(frozen=True)
class Tuned:
    """The trials in order, and by which metric they are compared; ``exit_code`` as of a training's ``Result``."""

    trials: tuple[Trial, ...]
    monitor: str
    mode: Literal["max", "min"]
    exit_code: int = 0

    @property
    def ranked(self) -> list[Trial]:
        """Those that did not fail, best first."""
        sign = -1 if self.mode == "max" else 1
        return sorted((t for t in self.trials if t.value is not None), key=lambda t: sign * (t.value or 0.0))

    @property
    def best(self) -> Trial:
        """The best one.

        Raises:
            UserError: all have failed.
        """
        if not (ranked := self.ranked):
            raise UserError("every training of the search has failed; narrow the search, and see the warnings above")
        return ranked[0]


def space(written: Mapping[str, Range | Choices | str]) -> dict[str, Range | Choices]:
    """What settings may be, also from text: ``1e-5..1e-2:log``, ``0..0.3``, ``5..20`` or ``light|plain``.

    Raises:
        UserError: neither a range nor choices.
    """
    return {path: _dimension(path, each) if isinstance(each, str) else each for path, each in written.items()}


def tune(
    run: Run,
    folder: str | Path,
    settings: Mapping[str, Range | Choices | str],
    *,
    num_trials: int = 20,
    search: Search | None = None,
) -> Tuned:
    """Train ``num_trials`` times, in ``folder``/trial-1 and so on, and write ``folder``/trials.json. The same call
    continues a search that was interrupted, and with more trials one that is complete.

    Args:
        settings: what each may be, by its path in the run; text as of :func:`space`.
        search: what proposes settings; default: Optuna's tree of Parzen estimators, seeded with the run's seed.

    Raises:
        UserError: a setting that does not exist, data without a validation split, a folder with another search, a first
            training that fails, or Optuna is not installed.
    """
    folder, dimensions = Path(folder), space(settings)
    monitor, mode = _watched(run)
    _require_settings(run, dimensions)
    search = search or OptunaSearch(dimensions, mode, run.seed)
    trials = _known(folder, dimensions)
    for trial in trials:
        if trial.done:
            search.tell(trial.settings, trial.value)
    code = 0
    while len(trials) < num_trials or (trials and not trials[-1].done):
        if not trials or trials[-1].done:
            trials.append(Trial(search.ask(), str(folder / f"trial-{len(trials) + 1}")))
            _save(folder, dimensions, trials, monitor)
        note(f"trial {len(trials)} of {num_trials}: {shown(trials[-1].settings)}")
        value, code = _trained(run, trials[-1], first=len(trials) == 1)
        if code:
            break
        trials[-1] = replace(trials[-1], value=value, done=True)
        _save(folder, dimensions, trials, monitor)
        search.tell(trials[-1].settings, value)
    return Tuned(tuple(trials), monitor, mode, code)


def shown(settings: Settings) -> str:
    """As options of ``vitrail train``."""
    return " ".join(f"--set {path}={value:.4g}" if isinstance(value, float) else f"--set {path}={value}"
                    for path, value in settings.items())  # fmt: skip


class OptunaSearch:
    """Optuna's default search.

    Raises:
        UserError: Optuna is not installed.
    """

    def __init__(self, dimensions: Space, mode: Literal["max", "min"], seed: int) -> None:
        try:
            import optuna
        except ImportError:
            raise UserError("a search over settings needs an extra; run: pip install 'vitrail[tune]'") from None
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.optuna = optuna
        self.distributions = {path: self._distribution(dimension) for path, dimension in dimensions.items()}
        direction: Literal["maximize", "minimize"] = "maximize" if mode == "max" else "minimize"
        self.study = optuna.create_study(direction=direction, sampler=optuna.samplers.TPESampler(seed=seed))
        self.open: list[tuple[Settings, Any]] = []

    def ask(self) -> Settings:
        """The next proposal."""
        trial = self.study.ask(self.distributions)
        self.open.append((dict(trial.params), trial))
        return dict(trial.params)

    def tell(self, settings: Settings, value: float | None) -> None:
        """Of a proposal, or of a trial of an earlier session, whose draw is repeated: the search goes on as if it had
        never stopped."""
        if all(known != settings for known, _ in self.open):
            self.ask()
        state = self.optuna.trial.TrialState.FAIL if value is None else self.optuna.trial.TrialState.COMPLETE
        for known, trial in self.open:
            if known == settings:
                self.open.remove((known, trial))
                self.study.tell(trial, value, state=state)
                return
        created = self.optuna.trial.create_trial
        self.study.add_trial(created(params=settings, distributions=self.distributions, value=value, state=state))

    def _distribution(self, dimension: Range | Choices) -> Any:
        distributions = self.optuna.distributions
        if isinstance(dimension, Choices):
            return distributions.CategoricalDistribution(dimension.values)
        if dimension.whole:
            return distributions.IntDistribution(int(dimension.low), int(dimension.high), log=dimension.log)
        return distributions.FloatDistribution(dimension.low, dimension.high, log=dimension.log)


def _watched(run: Run) -> tuple[str, Literal["max", "min"]]:
    """The metric that trials are compared by, and whether larger or smaller is better."""
    run, data = open_run(run)
    task = registry.load_from(REGISTRIES, run.task, "Task", "Config").Task
    monitor: str | None = run.monitor or task.monitor
    if monitor is None:
        raise UserError(f"{run.task!r} has no metric to compare trials by; name one with --monitor")
    if data.splits.val is None:
        raise UserError("trials are compared on a validation split and the data has none; set data.source.val_fraction")
    return monitor, mode_of(monitor) if run.monitor else task.monitor_mode


def _require_settings(run: Run, dimensions: Space) -> None:
    if not dimensions:
        raise UserError("nothing to search; name settings, as in --search optimizer.lr=1e-5..1e-2:log")
    for path, dimension in dimensions.items():
        for value in (dimension.low, dimension.high) if isinstance(dimension, Range) else dimension.values:
            override(run, {path: value})


def _known(folder: Path, dimensions: Space) -> list[Trial]:
    """The trials of a search that was begun."""
    if not (folder / TRIALS).exists():
        return []
    found = files.read_json(folder / TRIALS)
    if found["space"] != _written(dimensions):
        raise UserError(f"{folder} holds a search over other settings; choose another --name")
    return [Trial(**trial) for trial in found["trials"]]


def _written(dimensions: Space) -> dict[str, Any]:
    written: dict[str, Any] = json.loads(json.dumps({path: asdict(each) for path, each in dimensions.items()}))
    return written


def _save(folder: Path, dimensions: Space, trials: Sequence[Trial], monitor: str) -> None:
    content = {"space": _written(dimensions), "monitor": monitor, "trials": [asdict(trial) for trial in trials]}
    files.write_json(folder / TRIALS, content)


def _trained(run: Run, trial: Trial, *, first: bool) -> tuple[float | None, int]:
    """What the training of a trial reaches, None if it fails, and its exit code."""
    try:
        if RunFolder(trial.folder).read_summary() is None:
            result = fit(override(run, trial.settings), trial.folder)
            if result.exit_code:
                return None, result.exit_code
    except UserError as error:
        if first:
            raise
        warn(f"the trial failed: {error}")
        return None, 0
    best = (RunFolder(trial.folder).read_summary() or {}).get("best") or {}
    value = next((value for name, value in best.items() if name != "epoch"), None)
    return (None if value is None else float(value)), 0


def _dimension(path: str, text: str) -> Range | Choices:
    body, _, mark = text.partition(":")
    low, dots, high = body.partition("..")
    if dots and mark in ("", "log"):
        ends = [read_scalar(low), read_scalar(high)]
        if all(isinstance(end, int | float) and not isinstance(end, bool) and math.isfinite(end) for end in ends):
            first, last = ends
            assert isinstance(first, int | float)
            assert isinstance(last, int | float)
            if first < last and (not mark or first > 0):
                return Range(first, last, log=bool(mark))
    elif "|" in text:
        return Choices(tuple(_choice(each) for each in text.split("|")))
    raise UserError(
        f"{path}={text} is no search; write a rising range as 1e-5..1e-2:log (above 0), 0..0.3 or 5..20, "
        "or choices as light|plain"
    )


def _choice(text: str) -> str | int | float | bool | None:
    value = read_scalar(text)
    return value if value is None or isinstance(value, str | int | float | bool) else text
