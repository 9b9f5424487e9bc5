from __future__ import annotations

import csv
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from vitrail.cli import main
from vitrail.loading import load


@pytest.fixture
def predict(weights, capsys):
    """``predict(*arguments)`` → (exit code, stdout, stderr)."""

    def call(*arguments):
        code = main(["predict", weights, *map(str, arguments), "--device", "cpu"])
        return code, *capsys.readouterr()

    return call


def paths_of(out):
    return [item["path"] for item in json.loads(out)]


def test_json_is_what_the_predictor_says(predict, weights, photos):
    code, out, err = predict(photos / "a.png", photos / "b.jpg", "--json", "--top", 2)
    assert (code, err) == (0, "")
    predictor = load(weights, device="cpu")
    for item, name in zip(json.loads(out), ("a.png", "b.jpg"), strict=True):
        expected = predictor.predict(photos / name)
        assert item["path"] == str(photos / name)
        assert item["label"] == expected.label
        assert item["score"] == pytest.approx(expected.score, abs=1e-6)
        assert [each["label"] for each in item["top"]] == [label for label, _ in expected.top(2)]


def test_a_table_for_people(predict, weights, photos):
    _, out, _ = predict(photos / "a.png", photos / "b.jpg")
    header, first, second = out.splitlines()
    assert header.split() == ["picture", "label", "score", "then"]
    prediction = load(weights, device="cpu").predict(photos / "a.png")
    (label, score), (other, less), *_ = prediction.top(2)
    assert first.startswith(f"{photos / 'a.png'}  {label}")
    assert f"{score:.1%}" in first
    assert f"{other} {less:.1%}" in first
    assert str(photos / "b.jpg") in second
    assert first.index("%") == second.index("%")


def test_csv(predict, photos):
    _, out, _ = predict(photos / "a.png", photos / "b.jpg", "--csv", "--top", 3)
    rows = list(csv.DictReader(io.StringIO(out)))
    assert len(rows) == 6
    assert [row["rank"] for row in rows] == ["1", "2", "3"] * 2
    scores = [float(row["score"]) for row in rows[:3]]
    assert scores == sorted(scores, reverse=True)


def test_regression_and_multilabel(tiny_predictor, photos, tmp_path, capsys):
    for task in ("regression", "multilabel"):
        tiny_predictor(task).save(tmp_path / f"{task}.safetensors")
    call = ["predict", str(tmp_path / "regression.safetensors"), str(photos / "a.png"), "--device", "cpu"]
    expected = load(call[1], device="cpu").predict(photos / "a.png").values
    assert main([*call, "--csv"]) == 0
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    np.testing.assert_allclose([float(row["height"]), float(row["weight"])], expected, rtol=1e-5)
    assert main(call) == 0
    assert capsys.readouterr().out.splitlines()[0].split() == ["picture", "height", "weight"]
    assert main([*call, "--json"]) == 0
    assert set(json.loads(capsys.readouterr().out)[0]["values"]) == {"height", "weight"}
    call[1] = str(tmp_path / "multilabel.safetensors")
    assert main([*call, "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)[0]["top"]) == 4


def test_folders_globs_and_files(predict, photos):
    everything = [str(photos / name) for name in ("a.png", "b.jpg", "deep/c.png")]
    assert sorted(paths_of(predict(photos, "--json")[1])) == everything
    assert sorted(paths_of(predict(photos / "**" / "*.png", "--json")[1])) == [everything[0], everything[2]]
    code, out, err = predict(photos / "deep", photos / "?.png", photos / "b.jpg", "--json", "--batch-size", 1)
    assert (code, err) == (0, "")
    assert paths_of(out) == [everything[2], everything[0], everything[1]]
    assert "skipped files not named as images (1)" in predict(photos)[2]


def test_a_file_whose_name_looks_like_a_glob_is_itself(predict, photos):
    (photos / "a.png").rename(photos / "[a].png")
    assert paths_of(predict(photos / "[a].png", "--json")[1]) == [str(photos / "[a].png")]


@pytest.mark.parametrize("separator", ["\n", "\r\n", "\0"])
def test_paths_on_standard_input(predict, photos, stdin, separator):
    names = [str(photos / "b.jpg"), str(photos / "a.png")]
    stdin(separator.join([*names, ""]).encode())
    assert paths_of(predict("-", "--json")[1]) == names


@pytest.mark.parametrize("name", ["a.png", "b.jpg"])
def test_a_picture_on_standard_input(predict, photos, stdin, name):
    stdin((photos / name).read_bytes())
    code, out, _ = predict("-", "--json")
    assert code == 0
    (item,) = json.loads(out)
    (expected,) = json.loads(predict(photos / name, "--json")[1])
    assert item == expected | {"path": "standard input"}


@pytest.mark.parametrize("prefix", ["BM", "P5", "P6"])
def test_a_path_that_begins_like_a_picture_is_a_path(predict, photos, stdin, prefix, monkeypatch):
    monkeypatch.chdir(photos)
    (photos / "a.png").rename(photos / f"{prefix}W.png")
    stdin(f"{prefix}W.png\n".encode())
    assert paths_of(predict("-", "--json")[1]) == [f"{prefix}W.png"]


def test_an_unreadable_picture_stops_with_its_name(predict, photos):
    (photos / "bad.jpg").write_bytes(b"<html>")
    code, out, err = predict(photos / "a.png", photos / "bad.jpg", photos / "b.jpg", "--json")
    assert code == 2
    assert paths_of(out) == [str(photos / "a.png")], "what came before is whole"
    assert err.startswith(f"vitrail: error: {photos / 'bad.jpg'} is an HTML page")
    assert err.count("\n") == 1


def test_or_is_skipped_and_listed(predict, photos):
    (photos / "bad.jpg").write_bytes(b"<html>")
    (photos / "empty.png").write_bytes(b"")
    code, out, err = predict(photos, photos / "missing*", "--json", "--on-bad", "skip")
    assert code == 2
    assert "matches nothing" in err
    code, out, err = predict(photos, "--json", "--on-bad", "skip")
    assert code == 0
    assert len(paths_of(out)) == 3
    lines = err.splitlines()
    assert "warning: skipped 2 of 5 pictures:" in lines
    assert any(line.startswith(f"  {photos / 'bad.jpg'} is an HTML page") for line in lines)
    assert any(line.startswith(f"  {photos / 'empty.png'} is empty") for line in lines)


def test_nothing_readable_is_an_error(predict, photos):
    (photos / "bad.jpg").write_bytes(b"<html>")
    code, out, err = predict(photos / "bad.jpg", "--on-bad", "skip", "--json")
    assert code == 2
    assert json.loads(out) == []
    assert "none of the 1 pictures can be read" in err


@pytest.mark.parametrize("arguments", [[], ["--json", "--csv", "a.png"]])
def test_wrong_use(predict, arguments):
    code, out, err = predict(*arguments)
    assert (code, out) == (2, "")
    assert err.count("\n") == 1


def test_names_that_are_not_utf_8_are_shown_escaped(predict, photos):
    raw = os.fsencode(photos) + b"/caf\xe9\n.png"
    os.rename(photos / "a.png", raw)
    for form in ([], ["--csv"], ["--json"]):
        code, out, _ = predict(os.fsdecode(raw), *form)
        assert code == 0
        assert r"caf\xe9\n.png" in (json.loads(out)[0]["path"] if form == ["--json"] else out)
        out.encode("utf-8")


def test_annotated_pictures_never_overwrite(predict, photos, tmp_path):
    folder = tmp_path / "drawn"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"precious")
    before = {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()}
    for _ in range(2):
        assert predict(photos / "a.png", photos / "deep" / "c.png", "--annotate", folder)[0] == 0
    assert {path.name for path in folder.iterdir()} == {"a.jpg", "a-2.jpg", "a-3.jpg", "c.jpg", "c-2.jpg"}
    assert (folder / "a.jpg").read_bytes() == b"precious"
    assert {path: path.read_bytes() for path in photos.rglob("*") if path.is_file()} == before
    with Image.open(folder / "a-2.jpg") as drawn:
        assert drawn.height > drawn.width * 30 / 40, "a band of text below the picture"


def test_annotating_into_the_pictures_own_folder_is_safe(predict, photos):
    before = (photos / "b.jpg").read_bytes()
    assert predict(photos / "b.jpg", "--annotate", photos)[0] == 0
    assert (photos / "b.jpg").read_bytes() == before
    assert (photos / "b-2.jpg").exists()


def test_a_place_that_cannot_be_written_is_the_users_mistake(predict, photos):
    code, _, err = predict(photos / "a.png", "--annotate", photos / "b.jpg" / "deeper")
    assert code == 2
    assert "cannot write" in err


def test_a_missing_run(photos, capsys):
    assert main(["predict", str(photos / "run"), str(photos / "a.png")]) == 2
    assert "there is no run or weights file" in capsys.readouterr().err
