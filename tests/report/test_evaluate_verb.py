"""``vitrail evaluate`` and ``vitrail report`` as typed by a person."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from vitrail.cli import main


def test_evaluate_prints_a_table_and_writes_numbers_predictions_and_plots(runs, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(["evaluate", str(runs["classification"]), "--split", "val", "--out", str(out), "--device", "cpu"]) == 0
    shown = capsys.readouterr()
    stored = json.loads((out / "val.json").read_text())
    assert f"{stored['metrics']['top1']:.2%}" in shown.out
    assert f"written: {out / 'val.json'}" in shown.err
    assert (out / "val.csv").read_text(encoding="utf-8").startswith("index,name,true,predicted,confidence,loss\n")
    plots = {path.name for path in (out / "val").iterdir()}
    assert {"confusion.png", "reliability.png", "per_class.png", "worst_mistakes.png"} <= plots


@pytest.mark.parametrize("task", ["classification", "multilabel", "regression"])
def test_evaluate_json_is_what_it_writes_and_does_not_depend_on_the_batch_size(task, runs, capsys):
    seen = []
    for batch_size in ("1", "7", "100"):
        assert main(["evaluate", str(runs[task]), "--json", "--batch-size", batch_size, "--device", "cpu"]) == 0
        seen.append(json.loads(capsys.readouterr().out))
        assert json.loads((runs[task] / "evaluation" / "val.json").read_text()) == seen[-1]
    for other in seen[1:]:
        assert other["metrics"] == pytest.approx(seen[0]["metrics"], rel=1e-4, abs=1e-5)
        assert [row["index"] for row in other["worst"]] == [row["index"] for row in seen[0]["worst"]]


def test_evaluate_on_other_data_takes_all_its_images_and_the_models_classes(runs, pictures, tmp_path, capsys):
    table = pictures / "two.csv"  # two of the three classes, in another order than the model's
    lines = (pictures / "class.csv").read_text(encoding="utf-8").splitlines()
    kept = [line for line in lines[1:] if "cat" not in line]
    table.write_text("\n".join([lines[0], *kept[::-1]]), encoding="utf-8")
    command = ["evaluate", str(runs["classification"] / "weights" / "best.safetensors"), str(table)]
    assert main([*command, "--out", str(tmp_path), "--json", "--device", "cpu"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["images"] == len(kept)
    assert [row["support"] for row in result["classes"] if "cat" in row["name"]] == [0]
    assert len(result["classes"]) == 3
    assert (tmp_path / "two-train.json").is_file()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["evaluate", "{run}/weights/best.safetensors"], "give DATA and --out FOLDER"),
        (["evaluate", "{run}", "--split", "tset"], "no split 'tset'"),
        (["evaluate", "{run}", "no/such/data"], "no/such/data"),
        (["evaluate", "no/such/run"], "no run or weights file"),
        (["report"], "no run given"),
        (["report", "no/such/run"], "holds no run"),
    ],
)
def test_mistakes_are_one_line(arguments, message, runs, capsys):
    assert main([part.format(run=runs["classification"]) for part in arguments]) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("vitrail: error: ")
    assert message in error


def test_evaluate_never_leaves_out_an_unreadable_image(runs, pictures, tmp_path, capsys):
    broken = tmp_path / "pictures"
    shutil.copytree(pictures, broken)
    (broken / "17.png").write_bytes(b"")
    assert main(["evaluate", str(runs["classification"]), str(broken / "class.csv"), "--device", "cpu"]) == 2
    assert "17.png is empty" in capsys.readouterr().err.splitlines()[-1]


def test_report_prints_the_path_of_the_page(runs, capsys):
    assert main(["report", str(runs["regression"]), "--device", "cpu"]) == 0
    assert Path(capsys.readouterr().out.strip()).is_file()


def test_report_of_two_runs_compares_them(runs, tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["report", str(runs["regression"]), str(runs["multilabel"]), "--out", str(page)]) == 0
    assert capsys.readouterr().out.strip() == str(page)
    assert "2 runs compared" in page.read_text(encoding="utf-8")
