"""Results by a column of a table, against counts by hand."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from scipy.stats import binomtest

from vitrail import loading, report
from vitrail.data import SourceConfig
from vitrail.errors import UserError
from vitrail.report import subgroups
from vitrail.report.evaluated import measure
from vitrail.report.run_reader import RunReader


@pytest.fixture(scope="module")
def table(pictures):
    """The file with the camera of each picture: one of two, by its number."""
    path = pictures / "cameras.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([["file", "camera"], *([f"{i}.png", "old" if i % 4 else "new"] for i in range(36))])
    return path


def test_rows_are_counts_by_hand(runs, table):
    model = loading.load(runs["classification"], device="cpu")
    evaluated = measure(model, RunReader(runs["classification"]).data.source, progress=False)
    columns, rows = subgroups.read(f"{table}:camera", SourceConfig(spec="elsewhere")).table(evaluated)
    assert columns == ["camera", "images", "right", "interval", "mean loss"]
    assert [row[0] for row in rows] == ["old", "new"]
    places = [
        int(evaluated.source.name(int(i)).rpartition("/")[2].removesuffix(".png")) for i in evaluated.evaluation.index
    ]
    right = evaluated.evaluation.outputs.argmax(axis=1) == evaluated.evaluation.targets
    for name, images, share, _, loss in rows:
        mine = np.array([("old" if place % 4 else "new") == name for place in places])
        assert (images, share) == (mine.sum(), f"{right[mine].mean():.1%}")
        assert loss == pytest.approx(np.array(evaluated.columns["loss"])[mine].mean())


@pytest.mark.parametrize(("hits", "total"), [(0, 7), (3, 7), (7, 7), (180, 360)])
def test_the_interval_is_wilsons(hits, total):
    expected = binomtest(hits, total).proportion_ci(method="wilson")
    assert subgroups.wilson(hits, total) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_the_report_shows_them(runs, table):
    page = report.write(runs["classification"], device="cpu", subgroups=f"{table}:camera").read_text(encoding="utf-8")
    assert '<section id="subgroups">' in page
    assert "The images by the column camera of cameras.csv" in page


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("{table}:camrea", r"no column 'camrea'; did you mean 'camera'\?"),
        ("camera", r"class.csv' has no column 'camera'"),
        ("nowhere.csv:camera", "cannot be read as a table"),
    ],
)
def test_mistakes(spec, message, runs, table):
    with pytest.raises(UserError, match=message):
        report.write(runs["classification"], device="cpu", subgroups=spec.format(table=table))


def test_a_table_without_the_images(runs, tmp_path, capsys):
    path = tmp_path / "others.csv"
    path.write_text("path,camera\nnobody.png,old\n")
    with pytest.raises(UserError, match="names none of the evaluated images"):
        report.write(runs["classification"], device="cpu", subgroups=f"{path}:camera")
