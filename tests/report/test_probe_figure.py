from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vitrail.report import style
from vitrail.report.figures.probe import accuracy


def curve(places: list[float]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    values = np.random.default_rng().uniform(0.3, 0.7, len(places))
    return np.array(places), values, np.stack((values - 0.1, values + 0.2))


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize("places", [[0.01], [0.01, 0.1, 1.0], [float(i) for i in range(1, 41)]])
def test_curves_with_error_bars(places, log, tmp_path):
    figure = accuracy({"$1_x$": curve(places), "猫": curve(places)}, "share", "linear on test", log=log)
    (axes,) = figure.axes
    assert axes.get_xscale() == ("log" if log else "linear")
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["$1_x$", "猫"]
    style.save_png(figure, tmp_path / "figure.png")
    with Image.open(tmp_path / "figure.png") as image:
        assert len(image.convert("RGB").getcolors(10**6)) > 20
    assert "var(--blue)" in style.to_svg(figure, "accuracy")


def test_bars_reach_from_the_lower_to_the_upper_end():
    x, y, interval = curve([1.0, 2.0, 3.0])
    figure = accuracy({"": (x, y, interval)}, "layer")
    (axes,) = figure.axes
    assert not figure.legends
    (bars,) = axes.collections
    for (low, high), segment in zip(interval.T, bars.get_segments(), strict=True):
        assert segment[:, 1] == pytest.approx([100 * low, 100 * high])
