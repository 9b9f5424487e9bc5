from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

import vitrail
from vitrail import registry
from vitrail.cli import main
from vitrail.config import to_dict
from vitrail.recipes import digits
from vitrail.train.folder import RunFolder

TINY = [f"--set=model.{part}" for part in ("patch_size=4", "dim=16", "depth=1", "heads=2", "mlp_dim=32")]
OPTIONS = ["--image-size", "8", "--channels", "1", "--batch-size", "8", "--device", "cpu", "--precision", "fp32"]
OPTIONS += ["--workers", "0", "--augment", "none", *TINY]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    (tmp_path / "data").mkdir()
    for split, count in (("train", 32), ("val", 16)):
        labels = np.arange(count) % 2
        images = rng.integers(0, 90, (count, 8, 8), dtype=np.uint8)
        images[labels == 1, :4] += 120
        np.savez(tmp_path / "data" / f"{split}.npz", images=images, labels=labels, classes=np.array(["low", "high"]))


def train(*arguments: str) -> int:
    return main(["train", *arguments])


def test_train_evaluate_report_and_load(capsys: Any) -> None:
    assert train("data", "--name", "demo", "--epochs", "6", "--lr", "0.01", *OPTIONS) == 0
    folder = Path("runs/demo")
    out = capsys.readouterr().out
    assert "val (16 images)" in out
    assert "report: runs/demo/report.html" in out
    assert (folder / "report.html").stat().st_size > 10_000
    assert "Parts of the training loss" not in (folder / "report.html").read_text()  # it has one
    assert (folder / "model_card.md").exists()
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["evaluation"]["split"] == "val"
    assert summary["evaluation"]["metrics"]["top1"] == summary["best"]["top1"] > 0.8
    image = np.full((8, 8), 40, np.uint8)
    image[:4] = 190
    assert vitrail.load(folder, device="cpu").predict(image).label == "high"


def test_the_same_command_finishes_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    command = ["data", "--name", "x", "--epochs", "1", *OPTIONS]
    monkeypatch.setattr("vitrail.report.write", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert train(*command) == 130
    pages = []
    monkeypatch.setattr("vitrail.report.write", lambda folder, **_: pages.append(folder) or folder / "report.html")
    assert train(*command) == 0
    assert pages == [Path("runs/x")]
    assert train(*command) == 2
    assert "runs/x is complete with 1 epochs; choose another --name, or extend" in capsys.readouterr().err


def test_resume_extends_and_refuses_the_rest(capsys: Any) -> None:
    assert train("data", "--name", "x", "--epochs", "1", "--no-report", *OPTIONS) == 0
    assert train("--resume", "runs/x", "--epochs", "3", "--no-report", "--workers", "1") == 0
    assert RunFolder("runs/x").run().epochs == 3
    assert json.loads(Path("runs/x/summary.json").read_text())["epochs"] == 3
    for options, message in (
        (["--resume", "runs/x", "--seed", "5", "--epochs", "4"], "seed: 0, now 5"),
        (["data", "--resume", "runs/x"], "DATA is the run's own"),
        (["--resume", "runs/x", "--model", "B/16"], "--model is the run's own"),
        (["--resume", "runs/y"], "runs/y holds no run"),
        ([], "nothing to train on; give a folder"),
    ):
        assert train(*options) == 2
        assert message in capsys.readouterr().err


def test_options_become_settings() -> None:
    options = ["--name", "x", "--epochs", "1", "--lr", "0.25", "--freeze", "vit.embed", "--freeze", "vit.norm"]
    assert train("data", *options, "--no-report", "--set", "optimizer.betas=[0.8, 0.9]", *OPTIONS, "--seed", "3") == 0
    run = yaml.safe_load(Path("runs/x/config.yaml").read_text())
    assert run["optimizer"]["lr"] == 0.25
    assert run["optimizer"]["betas"] == [0.8, 0.9]
    assert run["freeze"] == ["vit.embed", "vit.norm"]
    assert (run["seed"], run["task"], run["precision"]) == (3, "classification", "fp32")
    assert run["model"]["image_size"] == run["data"]["preprocess"]["size"] == [8, 8]
    assert run["data"]["loader"]["workers"] == 0


def test_fine_tuning_takes_the_model_from_the_file(capsys: Any) -> None:
    assert train("data", "--name", "base", "--epochs", "1", "--no-report", *OPTIONS) == 0
    options = ["--device", "cpu", "--batch-size", "8", "--workers", "0", "--augment", "none", "--precision", "fp32"]
    assert train("data", "--init", "runs/base", "--image-size", "16", "--epochs", "1", "--no-report", *options) == 0
    run = RunFolder("runs/data").run()
    assert (run.model.dim, run.model.image_size, run.data.preprocess.channels) == (16, (16, 16), 1)
    assert "backbone resized from (8, 8) pixels to (16, 16), head kept" in capsys.readouterr().err


def test_a_recipe_is_changed_by_options(monkeypatch: pytest.MonkeyPatch) -> None:
    runs = []
    monkeypatch.setattr("vitrail.train.loop.fit", lambda run, folder, **_: runs.append((run, folder)) or Ended)
    assert train("--recipe", "digits", "--no-report") == 0
    assert runs[-1][1] == Path("runs/digits")
    assert to_dict(runs[-1][0]) == to_dict(digits.run())
    assert train("data", "--recipe", "digits", "--epochs", "2", "--model", "Ti/2", "--no-report") == 0
    run, folder = runs[-1]
    assert folder == Path("runs/digits-data-Ti-2")
    assert (run.data.source.spec, run.epochs, run.model.dim, run.model.image_size) == ("data", 2, 192, (8, 8))
    assert run.data.augment == digits.run().data.augment


@pytest.mark.parametrize("recipe", ["deit_s16_in1k", "deit3_s16_in1k", "deit3_b16_in1k", "vit_s16_in1k"])
def test_recipes_for_imagenet_take_their_data_and_size_from_the_command(
    recipe: str, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    own = registry.load("recipes", recipe).run()
    grey = ["--channels", "1", "--set", "data.preprocess.mean=0.5", "--set", "data.preprocess.std=0.5"]
    tiny = ["--set=model.dim=16", "--set=model.depth=2", "--set=model.heads=2", "--set=model.mlp_dim=32"]
    small = ["--model", "Ti/4", "--image-size", "8", "--batch-size", "8", "--no-report", *grey, *tiny]
    assert train("data", "--recipe", recipe, "--epochs", "1", "--device", "cpu", "--workers", "0", *small) == 0
    folder = RunFolder(f"runs/{recipe}-data-Ti-4")
    run = folder.run()
    assert json.loads((folder.path / "summary.json").read_text())["epochs"] == 1
    assert run.model.block == own.model.block
    assert (run.model.positions, run.model.class_token) == (own.model.positions, own.model.class_token)
    assert (run.optimizer, run.data.augment, run.task_options) == (own.optimizer, own.data.augment, own.task_options)
    assert train("--recipe", recipe) == 2
    assert "the source 'imagenet' needs a path; write imagenet:PATH" in capsys.readouterr().err


def test_a_student_with_a_token_learns_from_a_run(capsys: Any) -> None:
    assert train("data", "--name", "teacher", "--epochs", "3", "--lr", "0.01", "--no-report", *OPTIONS) == 0
    taught = ["--distill", "runs/teacher", "--distill-token", "--distill-kind", "soft"]
    assert train("data", "--name", "student", "--epochs", "2", *taught, "--set", "distill.weight=0.4", *OPTIONS) == 0
    run = RunFolder("runs/student").run()
    assert run.distill is not None
    assert (run.distill.teacher, run.distill.kind, run.distill.weight) == ("runs/teacher", "soft", 0.4)
    assert vitrail.load("runs/student", device="cpu").task.head.distillation is not None
    assert "train_distillation_loss" in Path("runs/student/metrics.csv").read_text()
    assert "Parts of the training loss" in Path("runs/student/report.html").read_text()
    assert "- teacher: `runs/teacher` (soft)" in Path("runs/student/model_card.md").read_text()


class Ended:
    exit_code = 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["data", "--model", "S/17x"], "unknown model 'S/17x'"),
        (["dta"], "there is no file, folder or data source 'dta'"),
        (["data", "--set", "optimizer.lrr=3"], "did you mean"),
        (["data", "--recipe", "digit"], "unknown recipe 'digit'; did you mean 'digits'"),
        (["data", "--augment", "lite"], "unknown augmentation 'lite'; did you mean 'light'"),
        (["data", "--epochs", "0", *OPTIONS], "epochs"),
        (["data", "--log", "tensorbord", "--name", "x", *OPTIONS], "unknown logger 'tensorbord'"),
        (["data", "--init", "nowhere"], "there is no run or weights file 'nowhere'"),
        (["data", "--image-size", "9", *OPTIONS[2:]], "9"),
        (["data", "--distill", "nowhere", *OPTIONS], "there is no run or weights file 'nowhere'"),
        (["data", "--distill", "cnn.pt2", *OPTIONS], "there is no teacher 'cnn.pt2'"),
        (["data", "--distill-kind", "soft", *OPTIONS], "setting 'distill.teacher' is missing"),
    ],
)
def test_mistakes_are_one_line(options: list[str], message: str, capsys: Any) -> None:
    assert train(*options) == 2
    lines = capsys.readouterr().err.splitlines()
    assert message in lines[-1]
    assert lines[-1].startswith("vitrail: error: ")


def test_signals_become_exit_codes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("vitrail.train.loop.fit", lambda *_, **__: type("Left", (), {"exit_code": 143}))
    assert train("data", *OPTIONS) == 143
    assert not Path("runs/data/report.html").exists()


def test_several_processes_are_watched_without_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def watch(command: list[str], **options: Any) -> int:
        seen.append((command, options["processes"], options["restarts"], options["is_complete"]()))
        return 7

    monkeypatch.setattr("vitrail.train.launch.watch", watch)
    monkeypatch.setattr(sys, "argv", ["vitrail", "train", "data", "--processes", "2"])
    assert train("data", "--processes", "2", "--restarts", "3") == 7
    assert seen == [([sys.executable, "-m", "vitrail", "train", "data", "--processes", "2"], 2, 3, False)]


def test_an_unreadable_picture_stops_or_is_listed(tmp_path: Path) -> None:
    from PIL import Image

    rng = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 4)):
        for label in ("a", "b"):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(rng.integers(0, 255, (8, 8), dtype=np.uint8)).save(folder / f"{i}.png")
    bad = tmp_path / "photos" / "train" / "b" / "3.png"
    bad.write_bytes(bad.read_bytes()[:60])
    assert train("photos", "--name", "strict", "--epochs", "1", "--no-report", *OPTIONS) == 2
    skip = ["--set", "data.loader.on_bad=skip"]
    assert train("photos", "--name", "lenient", "--epochs", "2", "--no-report", *skip, *OPTIONS) == 0
    listed = json.loads(Path("runs/lenient/data.json").read_text())["bad_files"]
    ((name, reason),) = listed.items()
    assert name.endswith("photos/train/b/3.png")
    assert "is cut short" in reason
