"""``vitrail config``, ``--config``, ``--dry-run`` and ``--quality``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from vitrail import config, registry
from vitrail.cli import main
from vitrail.config import to_dict
from vitrail.terminal.commented import comments
from vitrail.train.folder import RunFolder
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig

TINY = [f"--set=model.{part}" for part in ("patch_size=4", "dim=16", "depth=1", "heads=2", "mlp_dim=32")]
FEW = ["--workers", "0", "--device", "cpu", "--precision", "fp32", "--no-report"]
NEW = ["--image-size", "8", "--channels", "1", "--augment", "none", *TINY, *FEW]


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    for folder, kinds in (("data", 2), ("more", 3)):
        (tmp_path / folder).mkdir()
        for split, count in (("train", 30), ("val", 15)):
            labels = np.arange(count) % kinds
            images = rng.integers(0, 90, (count, 8, 8), dtype=np.uint8)
            for image, label in zip(images, labels, strict=True):
                image[2 * label : 2 * label + 2] += 120
            np.savez(tmp_path / folder / f"{split}.npz", images=images, labels=labels)


@pytest.mark.parametrize("recipe", registry.names("recipes"))
def test_every_recipe_is_read_back_as_it_was(recipe: str, capsys: Any) -> None:
    assert main(["config", recipe]) == 0
    text = capsys.readouterr().out
    Path("run.yaml").write_text(text, encoding="utf-8")
    assert config.load(Run, "run.yaml") == registry.load("recipes", recipe).run().resolved
    assert "# share of the training, so that a shorter or longer one has a shorter or longer warmup." in text


def test_comments_are_what_classes_say_of_their_fields() -> None:
    assert comments(OptimizerConfig)["layer_decay"] == "lr factor from each layer to the one before it"
    assert comments(ScheduleConfig)["drops"].startswith("of step: shares of the training")
    said = comments(Run)
    assert said["accumulate"].endswith("not where images are compared with each other.")
    assert said["save_steps"] == said["save_seconds"]


def test_a_run_is_printed_and_trained_again_with_changes(capsys: Any) -> None:
    assert main(["train", "data", "--name", "first", "--epochs", "1", *NEW]) == 0
    capsys.readouterr()
    assert main(["config", "runs/first"]) == 0
    printed = capsys.readouterr().out
    assert yaml.safe_load(printed) == to_dict(RunFolder("runs/first").run())
    Path("again.yaml").write_text(printed, encoding="utf-8")
    assert main(["train", "--config", "again.yaml", "--epochs", "2", *FEW]) == 0
    first, again = (RunFolder(f"runs/{name}").run() for name in ("first", "again"))
    assert (again.epochs, again.model, again.data.source) == (2, first.model, first.data.source)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["config", "digit"], "there is no recipe, run or file 'digit'; did you mean 'digits'?"),
        (["config", "data"], "data holds no run"),
        (["train", "--config", "a.yaml", "--recipe", "digits"], "give one of them"),
        (["train", "--config", "a.yaml"], "cannot read the config a.yaml"),
        (["train", "--config", "a.yaml", "--resume", "runs/x"], "--config is the run's own"),
        (["train", "--config", "foreign.yaml"], "foreign.yaml names the module 'some.module'"),
    ],
)
def test_what_cannot_be_taken_is_refused(arguments: list[str], message: str, capsys: Any) -> None:
    run = to_dict(registry.load("recipes", "digits").run()) | {"task": "some.module"}
    Path("foreign.yaml").write_text(yaml.safe_dump(run), encoding="utf-8")
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_a_dry_run_says_the_plan_draws_a_batch_and_trains_nothing(capsys: Any) -> None:
    assert main(["train", "data", "--name", "x", "--dry-run", *NEW]) == 0
    out, err = capsys.readouterr()
    assert "plan: results in runs/x" in err
    assert "warning: 30 images are few for training a Vision Transformer from scratch" in err
    assert "vitrail train data --init WEIGHTS" in err
    assert "a batch: runs/x-batch.png" in out
    assert err.endswith("next: the same command without --dry-run\n")
    assert sorted(path.name for path in Path("runs").iterdir()) == ["x-batch.png"]


def test_fine_tuning_fits_a_head_and_any_number_of_images_will_do(capsys: Any) -> None:
    assert main(["train", "data", "--name", "base", "--epochs", "1", *NEW]) == 0
    run = RunFolder("runs/base").run()
    assert (run.data.loader.batch_size, run.optimizer.lr) == (7, 5e-4)
    few = ["--init", "runs/base", "--augment", "none", *FEW]
    capsys.readouterr()
    for quality in ("fast", "good"):
        assert main(["train", "more", "--name", quality, "--quality", quality, *few]) == 0
        err = capsys.readouterr().err
        assert "fit_head: true" in err
        assert "fit_head: features of 30 images" in err
        assert "few for training" not in err
    fast, good = (RunFolder(f"runs/{name}").run() for name in ("fast", "good"))
    assert (fast.freeze, fast.epochs) == (("backbone",), 1)
    assert (good.freeze, good.release, good.optimizer.layer_decay) == ((), "last", 0.7)
    assert good.epochs * (30 // good.data.loader.batch_size) >= 200
    assert not Path("runs/good/weights/best.safetensors").exists()


def test_who_names_a_monitor_gets_the_epoch_that_it_chooses(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    assert main(["train", "data", "--name", "base", "--epochs", "1", *NEW]) == 0
    runs: list[Any] = []
    ended = type("Ended", (), {"exit_code": 0})
    monkeypatch.setattr("vitrail.train.loop.fit", lambda run, folder, **_: runs.append(run) or ended)
    for words in ([], ["--monitor", "auroc"], ["--patience", "3"]):
        assert main(["train", "more", "--init", "runs/base", *FEW, *words]) == 0
    assert [run.release for run in runs] == ["last", "best", "best"]


def test_explicit_settings_win_over_those_of_fine_tuning(capsys: Any) -> None:
    assert main(["train", "data", "--name", "base", "--epochs", "1", *NEW]) == 0
    options = ["--lr", "0.5", "--epochs", "1", "--batch-size", "15", "--set", "release=best", "--set", "ema=null"]
    assert main(["train", "more", "--name", "own", "--init", "runs/base", "--augment", "none", *FEW, *options]) == 0
    run = RunFolder("runs/own").run()
    assert (run.optimizer.lr, run.epochs, run.data.loader.batch_size) == (0.5, 1, 15)
    assert (run.release, run.ema, run.fit_head) == ("best", None, True)
    assert Path("runs/own/weights/best.safetensors").exists()
