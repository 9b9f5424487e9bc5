"""A search over settings, with a stand-in for Optuna and with the real one."""

from __future__ import annotations

import json
import sys

import pytest
from tiny import tiny_run

from vitrail.cli import main
from vitrail.config import override
from vitrail.errors import UserError
from vitrail.train.tuning import Choices, OptunaSearch, Range, Trial, Tuned, space, tune


class Listed:
    """Proposes settings from a list, and keeps what it is told."""

    def __init__(self, *proposals):
        self.proposals, self.told = list(proposals), []

    def ask(self):
        return self.proposals.pop(0)

    def tell(self, settings, value):
        self.told.append((settings, value))


def test_spaces():
    found = space(
        {"optimizer.lr": "1e-5..1e-2:log", "epochs": "5..20", "clip": "0.5..2", "data.augment": "light|plain"}
    )
    assert found == {
        "optimizer.lr": Range(1e-5, 1e-2, log=True),
        "epochs": Range(5, 20),
        "clip": Range(0.5, 2),
        "data.augment": Choices(("light", "plain")),
    }
    assert found["epochs"].whole
    assert not found["clip"].whole
    assert space({"ema": "null|true"})["ema"] == Choices((None, True))
    for text in ("", "3", "2..1", "0..1:log", "1..2:exp", "a..b"):
        with pytest.raises(UserError, match="is no search; write a rising range"):
            space({"x": text})


def test_trials_are_trained_compared_and_continued(bands, tmp_path):
    run, dimensions = tiny_run(bands, epochs=1), {"optimizer.lr": "1e-5..0.1:log"}
    rates = [{"optimizer.lr": 1e-5}, {"optimizer.lr": 0.01}, {"optimizer.lr": 0.1}]
    first = Listed(*rates[:2])
    result = tune(run, tmp_path / "search", dimensions, num_trials=2, search=first)
    best = [
        json.loads((tmp_path / "search" / f"trial-{n}" / "summary.json").read_text())["best"]["top1"] for n in (1, 2)
    ]
    assert [trial.value for trial in result.trials] == best
    assert first.told == list(zip(rates[:2], best, strict=True))
    assert result.best.value == max(best)
    later = Listed(rates[2])
    more = tune(run, tmp_path / "search", dimensions, num_trials=3, search=later)
    assert more.trials[:2] == result.trials
    assert [settings for settings, _ in later.told] == rates, "it learns what was tried before"
    assert tune(run, tmp_path / "search", dimensions, num_trials=3, search=Listed()) == more
    with pytest.raises(UserError, match="holds a search over other settings"):
        tune(run, tmp_path / "search", {"clip": Range(0.5, 2.0)}, search=Listed())


def test_a_trial_that_was_begun_is_finished_first(bands, tmp_path):
    dimensions, settings = {"optimizer.lr": Range(1e-3, 0.1)}, {"optimizer.lr": 0.02}
    (tmp_path / "search").mkdir()
    begun = {"settings": settings, "folder": str(tmp_path / "search" / "trial-1"), "value": None, "done": False}
    written = {"optimizer.lr": {"low": 1e-3, "high": 0.1, "log": False}}
    content = {"space": written, "monitor": "top1", "trials": [begun]}
    (tmp_path / "search" / "trials.json").write_text(json.dumps(content))
    result = tune(tiny_run(bands, epochs=1), tmp_path / "search", dimensions, num_trials=1, search=Listed())
    assert result.trials[0].settings == settings
    assert result.trials[0].done


def test_the_order_is_that_of_the_metric():
    trials = tuple(Trial({}, str(value), value, True) for value in (0.2, None, 0.1))
    assert [t.value for t in Tuned(trials, "mae", "min").ranked] == [0.1, 0.2]
    assert Tuned(trials, "top1", "max").best.value == 0.2
    with pytest.raises(UserError, match="every training of the search has failed"):
        _ = Tuned(trials[1:2], "top1", "max").best


def test_mistakes_are_named_before_training(bands, tmp_path):
    run = tiny_run(bands)
    for dimensions, message in (
        ({}, "nothing to search"),
        ({"optimiser.lr": Range(0.1, 1)}, "did you mean 'optimizer'"),
        ({"epochs": Range(0, 3)}, "epochs"),
    ):
        with pytest.raises(UserError, match=message):
            tune(run, tmp_path / "search", dimensions, search=Listed())
    whole = override(tiny_run(bands / "train.npz"), {"data.source.val_fraction": 0})
    with pytest.raises(UserError, match="a validation split and the data has none"):
        tune(whole, tmp_path / "search", {"clip": Range(0.5, 2.0)})
    assert not (tmp_path / "search").exists()


def test_without_optuna_the_command_says_what_to_install(bands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "optuna", None)
    assert (
        main(["tune", str(bands), "--image-size", "8", "--channels", "1", "--model", "Ti/4", "--batch-size", "8"]) == 2
    )
    assert "pip install 'vitrail[tune]'" in capsys.readouterr().err


def test_optuna_finds_the_minimum():
    search = OptunaSearch({"x": Range(-2.0, 2.0), "n": Range(1, 4), "c": Choices(("a", "b"))}, "min", seed=0)
    search.tell({"x": 1.9, "n": 4, "c": "b"}, 10.0)
    found = []
    for _ in range(40):
        settings = search.ask()
        found.append(settings["x"] ** 2 + settings["n"] + (settings["c"] == "b"))
        search.tell(settings, found[-1])
    assert min(found) < 1.5


def test_a_continued_search_proposes_what_an_uninterrupted_one_does():
    dimensions = {"x": Range(-2.0, 2.0), "c": Choices(("a", "b"))}
    whole, parts = (OptunaSearch(dimensions, "min", seed=3) for _ in range(2))
    told = []
    for n in range(14):
        if n in (4, 12):
            parts = OptunaSearch(dimensions, "min", seed=3)
            for earlier in told:
                parts.tell(*earlier)
        settings = whole.ask()
        assert parts.ask() == settings
        told.append((settings, settings["x"] ** 2))
        whole.tell(*told[-1])
        parts.tell(*told[-1])


def test_the_command_searches_with_optuna_and_continues(bands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["tune", str(bands), "--image-size", "8", "--channels", "1", "--model", "Ti/4", "--batch-size", "8"]
    command += ["--epochs", "1", "--name", "search", "--search", "optimizer.lr=1e-5..0.1:log"]
    command += ["--search", "data.augment=light|plain", "--trials"]
    assert main([*command, "2"]) == 0
    first = json.loads((tmp_path / "runs/search/trials.json").read_text())["trials"]
    assert main([*command, "3"]) == 0
    trials = json.loads((tmp_path / "runs/search/trials.json").read_text())["trials"]
    assert trials[:2] == first
    assert len({trial["settings"]["optimizer.lr"] for trial in trials}) == 3
    for trial in trials:
        assert 1e-5 <= trial["settings"]["optimizer.lr"] <= 0.1
        assert trial["settings"]["data.augment"] in ("light", "plain")
    best = max(trials, key=lambda trial: trial["value"])
    assert f"best: {best['folder']}; train with --set optimizer.lr=" in capsys.readouterr().err
