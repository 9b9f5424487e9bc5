"""The page shows boxes and class maps on the picture."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

from browsing import choose, said, show, stage
from playwright.sync_api import expect
from test_places import build

# how many pixels of the canvas are painted, and in how many colours
PAINTED = """(canvas) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  const pixels = new Uint32Array(data.buffer).filter((pixel) => pixel >>> 24);
  return [pixels.length / (canvas.width * canvas.height), new Set(pixels).size];
}"""


@pytest.fixture
def predictors():
    return {name: build(name, resize="square") for name in ("detection", "segmentation")}


@pytest.mark.parametrize("name", ["detection", "segmentation"])
def test_what_was_found_is_painted_and_read_out(visit, photo, predictors, name):
    page = visit(models={name: predictors[name]})
    page.wait_for_load_state("networkidle")  # the page listens once it knows the models
    choose(page, photo)
    show(page, "Picture")
    expect(page.locator(".panel[aria-busy=false]")).to_have_count(1)
    found = predictors[name].predict(photo["buffer"])
    labels = found.names if name == "detection" else list(found.shares)
    expect(page.locator(".bars .label")).to_have_text(labels)
    said(page, labels[0])
    share, colours = stage(page).evaluate(PAINTED)
    if name == "detection":
        assert 0.01 < share < 0.9
        assert colours > 2  # geometries, plates, letters
    else:
        background = found.shares.get(found.classes[0], 0.0)
        assert share == pytest.approx(1 - background, abs=0.02)
