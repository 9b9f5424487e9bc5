from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import vitrail
from vitrail.build import open_checkpoint
from vitrail.cli import main
from vitrail.train.folder import RunFolder
from vitrail.train.run import Run
from vitrail.train.schedule import factor

TINY = [f"--set=model.{part}" for part in ("patch_size=4", "dim=16", "depth=2", "heads=2", "mlp_dim=32")]
OPTIONS = ["--image-size", "16", "--batch-size", "8", "--device", "cpu", "--precision", "fp32", "--workers", "0", *TINY]
DECODER = [f"--set=task_options.decoder_{part}" for part in ("dim=16", "depth=1", "heads=2", "mlp_dim=32")]


@pytest.fixture(autouse=True)
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``flat/`` without classes, ``one/cats/``, ``two/{cats,dogs}/``, 26 pictures each."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for number in range(26):
        picture = Image.fromarray(rng.integers(0, 256, (20, 24, 3), np.uint8))
        for folder in ("flat", "one/cats", f"two/{('cats', 'dogs')[number % 2]}"):
            Path(folder).mkdir(parents=True, exist_ok=True)
            picture.save(f"{folder}/{number}.png")


def pretrain(*arguments: str) -> int:
    return main(["pretrain", *arguments])


def test_pretrain_report_fine_tune(capsys: Any) -> None:
    assert pretrain("two", "--name", "first", "--epochs", "2", "--set=data.source.val_fraction=0.3",
                    "--set=schedule.warmup_epochs=0", *OPTIONS, *DECODER) == 0  # fmt: skip
    out = capsys.readouterr().out
    assert "nearest neighbours" in out
    folder = Path("runs/first")
    page = (folder / "report.html").read_text()
    for words in ("What it learns", "Seen, reconstructed, original", "Pretraining by mae on two", "effective rank"):
        assert words in page
    assert (folder / "plots" / "learning.png").exists()
    assert 'model.embed("image.jpg")' in (folder / "model_card.md").read_text()
    summary = json.loads((folder / "summary.json").read_text())
    assert (summary["weights"], summary["best"], summary["monitor"]) == ("weights/last.safetensors", None, None)
    assert {"knn", "feature_std", "rank"} == summary["evaluation"]["metrics"].keys()
    rows = (folder / "metrics.csv").read_text().splitlines()
    assert {"train_loss", "val_knn", "val_rank"} <= set(rows[0].split(","))

    tuning = ["--init", "runs/first", "--name", "tuned", "--epochs", "1", "--lr", "1e-9", "--no-report"]
    assert main(["train", "two", *tuning, *OPTIONS[2:10]]) == 0
    assert "backbone kept, fresh head for 2 outputs" in capsys.readouterr().err
    before, after = (
        open_checkpoint(folder).load().vit.state_dict(),
        open_checkpoint("runs/tuned").load().vit.state_dict(),
    )
    assert all((after[name] - value).abs().max() < 1e-6 for name, value in before.items())
    assert vitrail.load(folder, device="cpu").embed("two/cats/0.png").shape == (16,)


@pytest.mark.parametrize("folder", ["flat", "one"])
def test_labels_are_not_needed(folder: str, capsys: Any) -> None:
    assert pretrain(folder, "--name", "x", "--epochs", "1", *OPTIONS, *DECODER) == 0
    said = capsys.readouterr()
    assert "labels auto: none" in said.err
    assert "26 train; no labels" in said.err
    assert "spread of the features" in said.out
    assert "nearest neighbours" not in said.out
    assert "Mistakes" not in Path("runs/x/report.html").read_text()


def test_the_name_says_the_method_and_resume_extends(capsys: Any) -> None:
    assert pretrain("flat", "--method", "simmim", "--epochs", "1", "--no-report", *OPTIONS,
                    "--set=task_options.mask_size=8") == 0  # fmt: skip
    assert pretrain("--resume", "runs/simmim-flat", "--epochs", "2", "--no-report") == 0
    assert RunFolder("runs/simmim-flat").run().epochs == 2


def test_a_shorter_training_reaches_its_peak_and_keeps_what_the_size_does_not_say(monkeypatch: Any) -> None:
    """The README's command, of 2 epochs in place of 800."""
    runs: list[Run] = []
    monkeypatch.setattr("vitrail.train.loop.fit", lambda run, folder, **_: runs.append(run) or Ended)
    assert pretrain("flat", "--method", "mae", "--name", "x", "--model", "Ti/4", "--image-size", "16", "--epochs", "2",
                    "--batch-size", "32", "--no-report") == 0  # fmt: skip
    assert pretrain("flat", "--method", "dino", "--name", "x", "--model", "Ti/8", "--epochs", "30", "--no-report") == 0
    for run in runs:
        num_steps = 5 * run.epochs
        rates = [factor(run.schedule, step, num_steps, 5) for step in range(num_steps)]
        assert max(rates) == 1
        assert rates[-1] < 0.1
    assert (runs[0].model.dim, runs[0].model.patch_size, runs[0].model.positions) == (192, (4, 4), "sincos_2d")
    assert (runs[1].model.dim, runs[1].model.block.drop_path) == (192, 0.1)


class Ended:
    exit_code = 0


def test_mistakes_are_explained(capsys: Any) -> None:
    for arguments, said in (
        (["flat", "--method", "mea"], "unknown method 'mea'; did you mean 'mae'?"),
        ([], "nothing to learn from; give a folder of pictures"),
        (["flat", "--set=patience=3", *OPTIONS, *DECODER], "patience waits for a better metric and 'mae' has none"),
        (["flat", "--set=data.views=[{count: 2}]", *OPTIONS, *DECODER], "'mae' learns from one view of an image"),
        (["--resume", "runs/none"], "holds no run"),
        (["flat", "--set=data.augment.mix.mixup=0.5", *OPTIONS, *DECODER], "needs targets to blend"),
    ):
        assert pretrain(*arguments) == 2
        assert said in capsys.readouterr().err


def test_a_recipe_whose_batch_is_larger_than_the_data_takes_a_smaller_one(capsys: Any) -> None:
    options = [option for option in OPTIONS if option not in ("--batch-size", "8")]
    assert pretrain("flat", "--name", "few", "--epochs", "1", "--no-report", *options, *DECODER) == 0
    assert "images do not fill the recipe's 256)" in capsys.readouterr().err
    run = RunFolder("runs/few").run()
    assert 1 < run.data.loader.batch_size <= 26 // 4
