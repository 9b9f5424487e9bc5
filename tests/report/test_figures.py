"""Every figure for few and many classes, odd names and degenerate results; they must draw without a warning."""

from __future__ import annotations

import re

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.metrics.classification import Metrics
from vitrail.metrics.multilabel import precision_recall_curve
from vitrail.report import style
from vitrail.report.figures import classes, confusion, curves, numbers, precision_recall, reliability, thresholds
from vitrail.report.figures.tiles import Tile, sheet

ODD = ["<b>&", "$5_bill$", "猫", "a" * 80, "\udcff", "line\nbreak"]


def measured(num_classes: int, num_images: int = 300):
    labels = torch.randint(num_classes, (num_images,))
    logits = torch.randn(num_images, num_classes)
    logits[torch.arange(num_images), labels] += 2
    names = (ODD + [f"class {i}" for i in range(num_classes)])[:num_classes]
    metrics = Metrics(names)
    metrics.update(logits, labels)
    return metrics.compute(), metrics.details(), names


def drawn(figure, tmp_path) -> str:
    """Save both ways; the picture is not blank and the drawing is self-contained."""
    style.save_png(figure, tmp_path / "deeper" / "figure.png")
    with Image.open(tmp_path / "deeper" / "figure.png") as image:
        assert image.width == round(style.WIDTH * style.DPI)
        assert len(set(image.convert("L").reduce(4).tobytes())) > 4
    svg = style.to_svg(figure, 'a "label"')
    assert svg.startswith("<svg viewBox=")
    assert svg.rstrip().endswith("</svg>")
    assert not any(colour in svg for colour in style.VARIABLES)
    assert "\udcff" not in svg
    return svg


def test_thresholds_by_hand(tmp_path):
    scores, present = np.array([0.1, 0.4, 0.6, 0.9]), np.array([False, True, False, True])
    figure = thresholds.decisions(scores, present, "$5 bill")
    lines = {line.get_label(): np.asarray(line.get_ydata()) for line in figure.axes[0].get_lines()}
    at = int(np.flatnonzero(thresholds.PLACES >= 0.5)[0])
    assert (lines["precision"][at], lines["recall"][at], lines["F1"][at]) == (0.5, 0.5, 0.5)
    assert (lines["precision"][0], lines["recall"][0]) == (0.5, 1)
    assert "best F1 0.800" in style.described(figure)
    drawn(figure, tmp_path)
    kept = thresholds.kept(scores, present)
    accuracy, share = (np.asarray(line.get_ydata()) for line in kept.axes[0].get_lines())
    assert (accuracy[at], share[at]) == (0.5, 0.5)
    drawn(kept, tmp_path)


def test_epochs_are_whole_and_the_peak_is_the_one_that_was_set(tmp_path):
    for count in (1, 2, 3, 5, 300):
        epochs = np.arange(1, count + 1, dtype=float)
        figure = curves.learning_rate(epochs, 1e-4 / epochs, 1e-3)
        ticks = figure.axes[0].get_xticks()
        assert (ticks == ticks.round()).all()
        assert "peak 0.001" in style.described(figure)
        assert figure.axes[0].get_ylim()[1] > 1e-3


def test_nothing_at_0_or_1_is_cut(tmp_path):
    ends = np.array([0.0, 1.0])
    bins = {"confidence": ends, "accuracy": ends, "count": np.array([3, 5])}
    for figure in (
        reliability.reliability_diagram(bins, 0.0),
        precision_recall.precision_recall([("a", 1.0, ends, ends)]),
        classes.per_class([{"name": "a", "f1": 1.0, "precision": 1.0, "recall": 0.0, "support": 2}]),
        thresholds.kept(ends, ends > 0),
    ):
        low, high = figure.axes[0].get_xlim()
        assert low <= -0.02
        assert high >= 1.02
        drawn(figure, tmp_path)


def test_a_drawing_says_what_it_shows(tmp_path):
    epochs = np.arange(1.0, 4)
    figure = curves.learning_curve("Loss", {"train": (epochs, epochs[::-1]), "<b>": (epochs, epochs)}, "min")
    label = re.search(r'aria-label="([^"]*)"', drawn(figure, tmp_path))[1]
    assert label == "Loss; best 1 at epoch 1; train from 3 to 1; &lt;b&gt; from 1 to 3"


@pytest.mark.parametrize("num_classes", [1, 2, 6, 30, 200])
def test_classification_figures(num_classes, tmp_path):
    metrics, details, names = measured(num_classes)
    drawn(confusion.matrix(details["confusion"], names), tmp_path)
    drawn(classes.per_class(details["classes"]), tmp_path)
    drawn(reliability.reliability_diagram(details["reliability"], metrics["ece"]), tmp_path)
    if num_classes > 1:
        drawn(confusion.pairs(details["confusion"], names), tmp_path)


def test_the_matrix_of_many_classes_shows_those_with_the_most_mistakes(tmp_path):
    counts = np.diag(np.full(100, 50))
    counts[7, 93] = 20
    svg = drawn(confusion.matrix(counts, [f"name{i:03}" for i in range(100)]), tmp_path)
    assert "name007" in svg
    assert "name093" in svg
    assert svg.count(">name") == 2 * confusion.NUM_WORST


def test_the_matrix_writes_its_counts(tmp_path):
    svg = drawn(confusion.matrix(np.array([[101, 7], [13, 102]]), ["a", "b"]), tmp_path)
    counts = [7, 9999, 10_000, 21_757, 999_499, 999_500, 1_411_810, 12_345_678]
    assert [confusion.compact(n) for n in counts] == ["7", "9999", "10K", "22K", "999K", "1.0M", "1.4M", "12M"]
    assert all(f">{count}</text>" in svg for count in (101, 7, 13, 102))


def test_most_confused_are_the_largest_mistakes():
    counts = np.random.default_rng(1).integers(0, 9, (7, 7))
    found = confusion.most_confused(counts, 12)
    every = sorted((counts[i, j] for i in range(7) for j in range(7) if i != j), reverse=True)
    assert [count for _, _, count in found] == every[:12]
    assert all(counts[true, said] == count and true != said for true, said, count in found)


def test_nothing_is_confused_when_all_is_right():
    assert confusion.most_confused(np.diag([3, 4]), 5) == []


def test_learning_curves_of_one_epoch_and_of_several_lines(tmp_path):
    epochs = np.arange(1, 9.0)
    drawn(curves.learning_curve("Loss", {"train": (epochs[:1], epochs[:1])}, "min"), tmp_path)
    lines = {name: (epochs, np.random.default_rng(0).random(8)) for name in ("train", "validation", *ODD)}
    svg = drawn(curves.learning_curve("Loss", lines, "max"), tmp_path)
    assert ">validation</text>" in svg
    drawn(curves.learning_rate(epochs, 1e-6 * epochs, 5e-5), tmp_path)


def test_the_best_epoch_is_named(tmp_path):
    curve = (np.array([1, 2, 3.0]), np.array([0.5, 0.75, 0.625]))
    assert "best 0.75 at epoch 2" in drawn(curves.learning_curve("Accuracy", {"validation": curve}, "max"), tmp_path)
    assert "best 0.5 at epoch 1" in drawn(curves.learning_curve("Error", {"validation": curve}, "min"), tmp_path)


@pytest.mark.parametrize(("num_images", "num_targets"), [(1, 1), (50, 2), (3000, 9)])
def test_regression_figures(num_images, num_targets, tmp_path):
    targets = np.random.default_rng(0).normal(size=(num_images, num_targets))
    names = (ODD * 2)[:num_targets]
    drawn(numbers.predicted_against_true(targets + 0.1, targets, names), tmp_path)
    drawn(numbers.errors(targets + 0.1, targets, names), tmp_path)


def test_precision_recall_curves_of_few_and_many_classes(tmp_path):
    for count in (1, 9):
        lines = []
        for i in range(count):
            precision, recall = precision_recall_curve(torch.randn(2000), torch.rand(2000) > 0.5)
            lines.append((ODD[i % 6], i / 10, precision.numpy(), recall.numpy()))
        drawn(precision_recall.precision_recall(lines), tmp_path)


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_tiles_of_any_shape(mode, tmp_path):
    random = np.random.default_rng(0)
    images = [Image.fromarray(random.integers(0, 255, shape, np.uint8)) for shape in ((8, 8), (60, 200), (90, 30))]
    tiles = [
        Tile(image.convert(mode), name, "note", right)
        for image, name, right in zip(images, ODD, (True, False, None), strict=False)
    ]
    drawn(sheet(tiles, "Heading"), tmp_path)


@pytest.mark.parametrize("name", [*ODD, "", "cat"])
def test_short_names_fit(name):
    text = style.short(name, 20)
    assert len(text) <= 20
    assert text.isprintable()
