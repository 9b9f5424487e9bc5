"""A training for each fold, in Python and from the command line."""

from __future__ import annotations

import json
from statistics import fmean, stdev

import pytest
from tiny import tiny_run

from vitrail.cli import main
from vitrail.train.cross_validation import cross_validate


def test_folds_are_trained_and_summarised(bands, tmp_path, capsys):
    run = tiny_run(bands / "train.npz", epochs=1)
    result = cross_validate(run, tmp_path / "cv", folds=3)
    summaries = [json.loads((tmp_path / "cv" / f"fold-{n}" / "summary.json").read_text()) for n in (1, 2, 3)]
    values = [summary["metrics"]["top1"] for summary in summaries]
    assert result.metrics["top1"] == tuple(values)
    assert (result.mean("top1"), result.deviation("top1")) == (fmean(values), stdev(values))
    low, high = result.interval("top1")
    assert low <= result.mean("top1") <= high
    sizes = [json.loads((tmp_path / "cv" / f"fold-{n}" / "data.json").read_text())["counts"] for n in (1, 2, 3)]
    assert sizes == [{"train": 32, "val": 16}] * 3
    capsys.readouterr()
    assert cross_validate(run, tmp_path / "cv", folds=3) == result
    assert capsys.readouterr().err == "", "what is complete is not trained again"


def test_the_verb(bands, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    size = ["--image-size", "8", "--channels", "1", "--batch-size", "8", "--device", "cpu", "--precision", "fp32"]
    shape = ["--set", "model.patch_size=[4,4]", "--set", "model.dim=16", "--set", "model.depth=1"]
    shape += ["--set", "model.heads=2", "--set", "model.mlp_dim=16", "--set", "data.loader.workers=0"]
    command = ["train", str(bands / "train.npz"), "--folds", "2", "--epochs", "1", "--name", "cv", "--no-report"]
    assert main([*command, *size, *shape, "--monitor", "auroc", "--balance", "sampler"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[0].split()[:2] == ["2", "folds"]
    stored = json.loads((tmp_path / "runs" / "cv" / "folds.json").read_text())
    assert stored["metrics"]["auroc"]["mean"] == pytest.approx(fmean(fold["auroc"] for fold in stored["folds"]))
    assert main([*command, "--processes", "2"]) == 2
    assert "add --fold 1" in capsys.readouterr().err
