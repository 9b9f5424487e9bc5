"""How tests use the page: by the names and roles that a screen reader would find."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

GRID = (2, 3)  # of the model "small"
VIEWS = ["Picture", "Attention", "Grad-CAM", "Colours", "Relevance", "Rollout", "Similar patches", "Merging"]

expect.set_options(timeout=20_000)  # milliseconds; a busy core is no defect


def choose(page, photo):
    page.locator("#file").set_input_files(photo)
    expect(page.locator(".bars li, .numbers dt, .failed").first).to_be_visible()


def show(page, view):
    page.get_by_role("radio", name=view).check(force=True)


def stage(page):
    return page.get_by_role("application").first


def slide(page, name, value):
    page.get_by_role("slider", name=name).fill(str(value))


def said(page, words):
    expect(page.locator("#said")).to_contain_text(words)


def words(page, text):
    expect(page.locator(".words").first).to_contain_text(text)


def place(predictor, patch, size=(60, 80)):
    """The middle of a patch as shares of the picture's (width, height)."""
    left, top, right, bottom = predictor.preprocess.region(size)
    row, column = divmod(patch, GRID[1])
    x, y = left + (column + 0.5) / GRID[1] * (right - left), top + (row + 0.5) / GRID[0] * (bottom - top)
    return x / size[1], y / size[0]


def click(page, predictor, patch):
    box = stage(page).bounding_box()
    x, y = place(predictor, patch)
    stage(page).click(position={"x": x * box["width"], "y": y * box["height"]})


def named(patch, grid=GRID):
    row, column = divmod(int(patch), grid[1])
    return f"row {row + 1}, column {column + 1}"


def expect_names(page, photo, predictor):
    """The answers and their bars are the predictor's."""
    top = predictor.predict(photo["buffer"]).top(5)
    rows = page.locator(".bars li")
    expect(rows).to_have_count(4)
    for row, (label, score) in zip(rows.all(), top, strict=True):
        expect(row).to_contain_text(label)
        expect(row).to_contain_text(f"{100 * score:.1f} %")
        filled, whole = (row.locator(each).bounding_box()["width"] for each in (".bar i", ".bar"))
        assert filled == pytest.approx(max(score * whole, 3), abs=1)
