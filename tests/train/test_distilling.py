"""Whole trainings with a teacher: what the student learns, what it leaves, and that nothing of the loop changes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny import digests, start_ranks, tiny_run, train_in_child, write_data

import vitrail
from vitrail.checkpoints import native
from vitrail.config import override, parse_assignments
from vitrail.errors import UserError
from vitrail.train.folder import RunFolder
from vitrail.train.loggers.csv import read
from vitrail.train.loop import fit
from vitrail.train.run import Run

STILL = {"block": {"dropout": 0.0, "drop_path": 0.0}}
TOKEN = ["model.class_token=true", "model.distillation_token=true", "task_options.pool=cls_distillation"]
TOKEN += ["task_options.head={distilled: true}"]
KINDS: dict[str, list[str]] = {
    "hard": ["distill.kind=hard"],
    "soft": ["distill.kind=soft"],
    "features": ["distill.kind=features"],
    "token": ["distill.kind=hard", *TOKEN],
}


@pytest.fixture(scope="module")
def teacher(bands: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp("teacher") / "run"
    run = tiny_run(bands, epochs=8, optimizer={"lr": 0.01}, model=STILL)
    assert (fit(run, folder).best or 0) > 0.9
    return str(folder)


def taught(data: Path, teacher: str, kind: str, *more: str, **changes: Any) -> Run:
    """A training with the teacher, without dropout."""
    run = tiny_run(data, model=STILL, **changes)
    return override(run, {"distill.teacher": teacher, **parse_assignments([*KINDS[kind], *more], Run)})


@pytest.fixture(scope="module")
def lies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bands with wrong labels in training and the true ones in validation."""
    folder = write_data(tmp_path_factory.mktemp("data") / "lies")
    with np.load(folder / "train.npz") as file:
        arrays = dict(file)
    arrays["labels"] = (arrays["labels"] + 1) % 3
    np.savez(folder / "train.npz", **arrays)
    return folder


@pytest.mark.parametrize("kind", ["hard", "soft"])
def test_a_student_without_true_labels_learns_what_its_teacher_knows(
    kind: str, lies: Path, teacher: str, tmp_path: Path
) -> None:
    run = taught(lies, teacher, kind, epochs=6, optimizer={"lr": 0.01})
    fit(override(run, {"distill": None}), tmp_path / "alone")
    fit(override(run, {"distill.weight": 1}), tmp_path / "taught")
    alone, with_teacher = (read(tmp_path / name / "metrics.csv")[-1]["val_top1"] for name in ("alone", "taught"))
    assert alone < 0.2  # it learned the lies
    assert with_teacher > 0.6


def test_features_come_near_the_teachers(bands: Path, teacher: str, tmp_path: Path) -> None:
    fit(taught(bands, teacher, "features", epochs=8, optimizer={"lr": 0.01}), tmp_path / "run")
    rows = read(tmp_path / "run" / "metrics.csv")
    assert rows[-1]["train_distillation_loss"] < 0.5 * rows[0]["train_distillation_loss"]
    assert rows[-1]["val_top1"] > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_left_is_the_student_alone(kind: str, bands: Path, teacher: str, tmp_path: Path) -> None:
    run = taught(bands, teacher, kind, epochs=1, ema={"decay": 0.5})
    fit(run, tmp_path / "taught")
    fit(override(run, {"distill": None}), tmp_path / "alone")
    files = [tmp_path / name / "weights" / "last.safetensors" for name in ("taught", "alone")]
    ours, plain = (native.load(file).state for file in files)
    assert {name: value.shape for name, value in ours.items()} == {n: v.shape for n, v in plain.items()}
    summaries = [json.loads((tmp_path / name / "summary.json").read_text()) for name in ("taught", "alone")]
    assert summaries[0]["parameters"] == summaries[1]["parameters"] == sum(v.numel() for v in plain.values())
    row = read(tmp_path / "taught" / "metrics.csv")[0]
    weight = 0.1 if kind == "soft" else 0.5
    parts = (1 - weight) * row["train_label_loss"] + weight * row["train_distillation_loss"]
    assert row["train_loss"] == pytest.approx(parts, rel=1e-5)
    predictor = vitrail.load(tmp_path / "taught", device="cpu")
    assert predictor.predict(np.full((8, 8), 80, np.uint8)).score > 1 / 3


@pytest.mark.parametrize("kind", ["features", "token"])
def test_resuming_is_exact(kind: str, bands: Path, teacher: str, tmp_path: Path) -> None:
    schedule = {"name": "constant", "warmup_epochs": 0}
    run = override(
        tiny_run(bands, epochs=2, schedule=schedule, ema={"decay": 0.9}),  # with dropout
        {"distill.teacher": teacher, **parse_assignments(KINDS[kind], Run), "data.augment.mix.mixup": 0.8},
    )
    fit(run, tmp_path / "straight")
    fit(dataclasses.replace(run, epochs=1), tmp_path / "resumed")
    fit(run, tmp_path / "resumed", extend=True)
    assert digests(tmp_path / "straight") == digests(tmp_path / "resumed")


@pytest.mark.parametrize("kind", KINDS)
def test_pieces_of_a_mixed_batch_are_the_batch(kind: str, bands: Path, teacher: str, tmp_path: Path) -> None:
    found = []
    for pieces in (1, 3):
        run = taught(bands, teacher, kind, "data.augment.mix.mixup=0.8", accumulate=pieces, epochs=2)
        fit(override(run, {"optimizer.name": "sgd", "optimizer.lr": 0.1}), tmp_path / f"{pieces}")
        found.append(native.load(tmp_path / f"{pieces}" / "weights" / "last.safetensors").state)
    for name, value in found[1].items():
        torch.testing.assert_close(value, found[0][name], rtol=0, atol=2e-6)


def test_bf16_trains_too(bands: Path, teacher: str, tmp_path: Path) -> None:
    for kind in KINDS:
        fit(taught(bands, teacher, kind, epochs=1, precision="bf16"), tmp_path / kind)
        assert np.isfinite(read(tmp_path / kind / "metrics.csv")[0]["train_distillation_loss"])


@pytest.mark.parametrize(("kind", "strategy"), [("features", "fsdp"), ("token", "ddp")])
def test_two_processes_are_one(
    kind: str, strategy: Any, bands: Path, teacher: str, context: Any, tmp_path: Path
) -> None:
    run = taught(bands, teacher, kind, strategy=strategy, epochs=2, timeout=20, schedule={"name": "constant"})
    run = override(run, {"optimizer.name": "sgd", "optimizer.lr": 0.1})
    alone = context.Process(target=train_in_child, args=(run, tmp_path / "alone"))
    alone.start()
    for process in (alone, *start_ranks(context, run, tmp_path / "both")):
        process.join(60)
    one, two = (native.load(tmp_path / name / "weights" / "last.safetensors").state for name in ("alone", "both"))
    assert (tmp_path / "both" / "summary.json").exists(), (tmp_path / "both.log").read_text()
    for name, value in two.items():
        torch.testing.assert_close(value, one[name], rtol=0, atol=2e-6)


def test_a_student_with_a_token_is_a_deit_of_hugging_face(bands: Path, teacher: str, tmp_path: Path) -> None:
    from transformers import DeiTForImageClassificationWithTeacher

    fit(taught(bands, teacher, "token", epochs=3, optimizer={"lr": 0.01}), tmp_path / "run")
    vitrail.convert(tmp_path / "run", tmp_path / "hf", to="huggingface")
    theirs = DeiTForImageClassificationWithTeacher.from_pretrained(tmp_path / "hf").eval()
    task, images = vitrail.load(tmp_path / "run", device="cpu").task, torch.randn(4, 1, 8, 8)
    found = theirs(images)
    torch.testing.assert_close(task(images), found.logits, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.logits, (found.cls_logits + found.distillation_logits) / 2)
    assert not torch.allclose(found.cls_logits, found.distillation_logits, atol=1e-3)  # they learned different things
    again = vitrail.load(tmp_path / "hf", device="cpu").task
    torch.testing.assert_close(again(images), task(images), rtol=1e-5, atol=1e-5)


def test_a_teacher_that_is_gone_is_one_line(bands: Path, teacher: str, tmp_path: Path) -> None:
    run = taught(bands, str(tmp_path / "typo"), "hard")
    with pytest.raises(UserError, match=r"there is no run or weights file .*typo"):
        fit(run, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_another_teacher_is_another_run(bands: Path, teacher: str, tmp_path: Path) -> None:
    run = taught(bands, teacher, "hard", epochs=1)
    fit(run, tmp_path / "run")
    with pytest.raises(UserError, match=r"distill\.teacher: .*elsewhere.*choose another --name"):
        fit(override(run, {"distill.teacher": "elsewhere"}), tmp_path / "run", extend=True)


def test_a_run_folder_allows_no_pickle_and_imports_no_module(bands: Path, tmp_path: Path) -> None:
    run = override(taught(bands, "model.pt2", "hard", epochs=1), {"distill.allow_pickle": True})
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    from vitrail import config

    config.save(run, folder.config)
    assert folder.run().distill == dataclasses.replace(run.distill, allow_pickle=False)  # type: ignore[type-var]
    assert folder.reconcile(run, extend=True).distill == run.distill  # who resumes may say it again
    for change in ({"distill.teacher": "evil.module:teacher"}, {"distill.kind": "evil.module"}):
        config.save(override(run, change), folder.config)
        with pytest.raises(UserError, match=r"names the module 'evil\.module', which no file may load"):
            folder.run()
