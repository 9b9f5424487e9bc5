"""The learning-rate range test: rates, suggestion, plot and verb."""

from __future__ import annotations

import json

import pytest
from PIL import Image
from tiny import tiny_run

from vitrail.cli import main
from vitrail.errors import UserError
from vitrail.train.rate_finder import RateCurve, find_rate


def test_rates_rise_exponentially_until_the_loss_diverges(bands):
    run = tiny_run(bands, optimizer={"name": "sgd", "momentum": 0.0, "lr": 0.123}, clip=None)
    curve = find_rate(run, num_steps=60, lowest=1e-3, highest=1e4, progress=False)
    assert 10 <= len(curve.rates) < 60, "at a rate of 10,000 plain gradient descent diverges"
    ratios = [after / before for before, after in zip(curve.rates, curve.rates[1:], strict=False)]
    assert ratios == pytest.approx([(1e7) ** (1 / 59)] * len(ratios))
    assert curve.rates[0] == 1e-3
    assert min(curve.smoothed) < curve.smoothed[0], "the loss falls on the way"
    assert curve.suggested == pytest.approx(curve.lowest / 10, rel=0.05)


def test_the_first_losses_are_those_of_a_training_at_these_rates(bands):
    """At rates of nearly zero the losses are those of the model as it was initialised: log 3 for three classes."""
    curve = find_rate(tiny_run(bands), num_steps=10, lowest=1e-9, highest=1e-8, progress=False)
    assert curve.losses == pytest.approx([1.0986] * 10, abs=1e-3)
    assert curve.smoothed == pytest.approx(curve.losses, abs=1e-3)


def test_the_suggestion():
    curve = RateCurve((1e-4, 1e-3, 1e-2), (3.0, 2.0, 2.5), (3.0, 2.0, 2.5))
    assert (curve.lowest, curve.suggested) == (1e-3, 1e-4)


def test_the_verb(bands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["find-rate", str(bands), "--image-size", "8", "--channels", "1", "--batch-size", "8", "--device", "cpu"]
    for setting in ("patch_size=[4,4]", "dim=16", "depth=1", "heads=2", "mlp_dim=16"):
        command += ["--set", f"model.{setting}"]
    command += ["--precision", "fp32", "--set", "data.loader.workers=0"]
    assert main([*command, "--steps", "12", "--plot", "rates.png"]) == 0
    said = capsys.readouterr()
    assert f"train with --lr {float(said.out):g}" in said.err
    with Image.open("rates.png") as drawn:
        assert drawn.width > 300
    assert main([*command, "--steps", "12", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)["rates"]) <= 12
    assert [path.name for path in tmp_path.iterdir()] == ["rates.png"], "nothing is kept of the training"
    for options, message in (
        (["--steps", "3"], "take 10 steps"),
        (["--plot", "rates.txt"], "end it with .png or .json"),
    ):
        assert main([*command, *options]) == 2
        assert message in capsys.readouterr().err
    assert main(["find-rate"]) == 2
    assert "nothing to train on" in capsys.readouterr().err


def test_rates_must_rise(bands):
    with pytest.raises(UserError, match=r"rates rise from 1 to 0\.1"):
        find_rate(tiny_run(bands), lowest=1.0, highest=0.1)
