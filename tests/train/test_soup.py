"""Several trainings from the same weights, averaged in one run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import tiny_run

import vitrail
from vitrail.build import open_checkpoint
from vitrail.config import override
from vitrail.data.loading.loader import Loader
from vitrail.errors import UserError
from vitrail.evaluation import evaluate
from vitrail.train import loop, soup
from vitrail.train.averaging import mean
from vitrail.train.folder import RunFolder
from vitrail.train.loop import fit
from vitrail.train.run import Run


@pytest.fixture(scope="module")
def begun(bands: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    """Three trainings of an epoch each, from the weights of another one."""
    start = tmp_path_factory.mktemp("start") / "run"
    fit(tiny_run(bands, epochs=1), start)
    return tiny_run(bands, epochs=1, init=str(start), members=3, release="last")


@pytest.fixture(scope="module")
def trained(begun: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("soup") / "run"
    assert fit(begun, folder).exit_code == 0
    return folder


def files_of(folder: Path) -> list[Path]:
    return [folder / "weights" / "last.safetensors", *sorted(folder.glob("members/*/weights/last.safetensors"))]


def test_the_weights_are_the_mean_of_all_trainings(trained: Path) -> None:
    files = files_of(trained)
    assert [RunFolder(file.parents[1]).run().seed for file in files] == [0, 1, 2]
    states = [open_checkpoint(file).read() for file in files]
    assert all(not torch.equal(states[0]["head.output.weight"], other["head.output.weight"]) for other in states[1:])
    found = open_checkpoint(trained)
    assert found.file.name == "soup.safetensors"
    for name, value in found.read().items():
        assert torch.equal(value, mean(states)[name]), name


def test_the_summary_is_of_the_mean(trained: Path, begun: Run) -> None:
    summary = json.loads((trained / "summary.json").read_text())
    assert summary["weights"] == "weights/soup.safetensors"
    predictor = vitrail.load(trained, device="cpu")
    val = vitrail.data.open_data(begun.data).splits.val
    loader = Loader(val, predictor.preprocess, begun.data.loader, train=False)
    expected = evaluate(predictor.task, loader, device="cpu", progress=False).metrics
    assert summary["metrics"]["loss"] == pytest.approx(expected["loss"], rel=1e-5)


def test_a_member_alone_is_that_training(trained: Path, begun: Run, tmp_path: Path) -> None:
    fit(override(begun, {"members": 1, "seed": 1}), tmp_path / "alone")
    alone = open_checkpoint(tmp_path / "alone").read()
    for name, value in open_checkpoint(trained / "members" / "2").read().items():
        assert torch.equal(value, alone[name]), name


def test_what_was_interrupted_continues(begun: Run, trained: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """The second training is killed when it begins; then the run goes on from there, to the same weights."""
    folder, train_epoch = tmp_path / "run", loop.Loop.train_epoch

    def killed(self: loop.Loop) -> Any:
        if "members" in str(self.context.folder.path):
            raise KeyboardInterrupt
        return train_epoch(self)

    with monkeypatch.context() as patched:
        patched.setattr(loop.Loop, "train_epoch", killed)
        with pytest.raises(KeyboardInterrupt):
            fit(begun, folder)
    assert not (folder / "summary.json").exists()
    first = (folder / "weights" / "last.safetensors").stat().st_mtime_ns
    assert fit(begun, folder).exit_code == 0
    assert (folder / "weights" / "last.safetensors").stat().st_mtime_ns == first, "its own training was done"
    for name, value in open_checkpoint(folder).read().items():
        assert torch.equal(value, open_checkpoint(trained).read()[name]), name


def test_all_members_are_extended(begun: Run, tmp_path: Path) -> None:
    two = override(begun, {"members": 2})
    fit(two, tmp_path / "run")
    fit(override(two, {"epochs": 2}), tmp_path / "run", extend=True)
    epochs = [
        json.loads((file.parents[1] / "summary.json").read_text())["epochs"] for file in files_of(tmp_path / "run")
    ]
    assert epochs == [2, 2]
    states = [open_checkpoint(file).read() for file in files_of(tmp_path / "run")]
    assert torch.equal(open_checkpoint(tmp_path / "run").read()["vit.norm.weight"], mean(states)["vit.norm.weight"])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"init": None},
            "members averages trainings from the same weights and needs weights to start from: give --init",
        ),
        ({"lora": {}}, "members averages trainings from the same weights and needs whole weights: leave lora out"),
    ],
)
def test_refused(begun: Run, tmp_path: Path, settings: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        fit(override(begun, settings), tmp_path / "run")
    assert not (tmp_path / "run" / "weights").exists()


def test_no_members_nothing_to_average(begun: Run, tmp_path: Path) -> None:
    assert soup.others(override(begun, {"members": 1}), RunFolder(tmp_path)) == []
