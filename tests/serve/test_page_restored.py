"""The page shows a picture before and after it was restored: a line that moves, and both enlarged together."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

from browsing import choose, show, words
from playwright.sync_api import expect
from test_restored import restoring


@pytest.fixture
def predictors():
    return {"larger": restoring()}


def test_before_and_after_by_pointer_keyboard_and_zoom(visit, photo):
    page = visit()
    page.wait_for_load_state("networkidle")
    choose(page, photo)
    expect(page.get_by_role("radio", name="Before and after")).to_be_checked()
    words(page, "Drag the line")
    after = page.locator(".comparison .after")
    expect(page.locator(".comparison")).to_be_visible()
    assert after.evaluate("(image) => image.decode().then(() => [image.naturalWidth, image.naturalHeight])") == [
        160,
        120,
    ]
    assert after.get_attribute("src").startswith("blob:")
    expect(page.locator(".numbers")).to_contain_text("160 × 120 pixels")

    line, times = page.get_by_role("slider", name="Line between before and after"), page.locator(".comparison output")
    line.focus()
    page.keyboard.press("Home")
    clip = "(image) => image.parentElement.style.clipPath"
    assert after.evaluate(clip) == "inset(0px 0px 0px 0%)"
    window = page.locator(".comparison .window")
    box = window.bounding_box()
    page.mouse.move(box["x"] + 5, box["y"] + 20)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.8 * box["width"], box["y"] + 20)
    page.mouse.up()
    assert float(line.input_value()) == pytest.approx(80, abs=1)

    window.focus()
    page.keyboard.press("+")
    expect(times).to_have_text("2 ×")
    page.keyboard.press("ArrowRight")
    moved = [
        page.locator(f".comparison .{each}").evaluate("(image) => image.style.transform")
        for each in ("before", "after")
    ]
    assert moved[0] == moved[1]
    assert moved[0].endswith("scale(2)")
    page.get_by_role("button", name="Smaller").click()
    expect(times).to_have_text("1 ×")
    with page.expect_download() as download:
        page.get_by_role("link", name="Save").click()
    assert download.value.suggested_filename.endswith("-restored.png")

    expect(page.get_by_role("radio", name="Attention")).to_have_count(0)
    show(page, "Pixels used")
    words(page, "Diffusion index")
    expect(page.locator(".comparison")).to_be_hidden()
    show(page, "Disagreement of views")
    words(page, "grey levels on average")


def test_on_a_phone_in_chinese(visit, photo):
    page = visit(viewport={"width": 375, "height": 780}, has_touch=True, is_mobile=True, locale="zh-CN")
    page.wait_for_load_state("networkidle")
    choose(page, photo)
    words(page, "拖动分界线")
    box = page.locator(".comparison .window").bounding_box()
    page.touchscreen.tap(box["x"] + 0.25 * box["width"], box["y"] + 30)
    line = page.get_by_role("slider", name="前后分界线")
    assert float(line.input_value()) == pytest.approx(25, abs=1)
    assert page.evaluate("document.documentElement.scrollWidth") <= 375
    for button in (page.get_by_role("button", name="放大"), page.get_by_role("link", name="保存")):
        assert button.bounding_box()["height"] >= 40
