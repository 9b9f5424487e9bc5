from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from vitrail.cli import main


@pytest.fixture
def shades(tmp_path):
    """Three class folders of twenty noisy pictures whose brightness tells the class."""
    rng = np.random.default_rng(0)
    for label, name in enumerate(("dark", "grey", "light")):
        (tmp_path / "shades" / name).mkdir(parents=True)
        for number in range(20):
            pixels = rng.integers(80 * label, 80 * label + 60, (20, 30, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "shades" / name / f"{number}.png")
    return str(tmp_path / "shades")


def test_a_table_on_stdout(weights, shades, capsys):
    assert main(["probe", weights, shades, "--device", "cpu", "--layer", "-1,0"]) == 0
    out, err = capsys.readouterr()
    lines = [line.split("  ") for line in out.splitlines()]
    assert [cell for cell in lines[0] if cell] == [
        "layer", "share", "labels", "top-1 accuracy on val", "95 % interval", "chosen",
    ]  # fmt: skip
    assert [line.split()[0] for line in out.splitlines()[1:]] == ["1", "0"]
    assert "k 10" in out
    assert "settings are chosen on 6 of the training images" in err
    assert "k is at most 48" in err


def test_few_labels_as_json_and_in_files(weights, shades, tmp_path, capsys):
    out = tmp_path / "probed"
    call = ["probe", weights, shades, "--device", "cpu", "--labels", "0.1", "--labels", "0.5", "--seeds", "2"]
    sweep = ["--method", "linear", "--set", "epochs=10", "--set", "lrs=[0.01,0.1]", "--set", "batch_size=16"]
    assert main([*call, *sweep]) == 0
    shown = capsys.readouterr().out
    assert "std" in shown
    assert "10 %" in shown
    assert "lr 0." in shown
    assert main([*call, "--layer", "all", "--out", str(out), "--json"]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed == json.loads((out / "probe.json").read_text())
    assert [(s["layer"], s["share"], len(s["trials"])) for s in printed["scores"]] == [
        (0, 0.1, 2), (0, 0.5, 2), (1, 0.1, 2), (1, 0.5, 2),
    ]  # fmt: skip
    assert all(s["interval"][0] <= s["accuracy"] <= s["interval"][1] for s in printed["scores"])
    assert printed["options"]["temperature"] == 0.07
    with Image.open(out / "probe.png") as drawn:
        assert len(drawn.convert("RGB").getcolors(10**6)) > 50


@pytest.mark.parametrize(
    "options", [[], ["--labels", "0.2", "--labels", "0.6"], ["--labels", "0.2"], ["--layer", "all"]]
)
def test_every_kind_of_picture_is_drawn(weights, shades, tmp_path, options):
    assert main(["probe", weights, shades, "--device", "cpu", "--out", str(tmp_path / "out"), *options]) == 0
    assert (tmp_path / "out" / "probe.png").stat().st_size > 5000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--layer", "last"], "'last' names no layers; write --layer -1"),
        (["--layer", "0,7"], "there is no layer 7; this model has layers 0 to 1"),
        (["--labels", "2"], "labels"),
        (["--method", "svm"], "unknown method 'svm'; choose one of: attentive, knn, linear"),
        (["--set", "k"], "is not an assignment"),
        (["--set", "k=many"], "'k'"),
        (["--set", "split=test"], "unknown setting 'split'"),
        (["--split", "test"], "cannot measure on the split 'test'; choose one of: val"),
        (["--pool", "max"], "cls_mean"),
    ],
)
def test_mistakes_are_one_line(weights, shades, capsys, options, message):
    assert main(["probe", weights, shades, "--device", "cpu", *options]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("vitrail: error: ")
    assert message in error


def test_pictures_without_labels(weights, photos, capsys):
    assert main(["probe", weights, str(photos / "deep"), "--device", "cpu"]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith("vitrail: error: ")
