"""The page in headless Chromium, with tiny models behind it. It is driven by roles and names, as a screen reader would.

It needs playwright (in the extra ``test``) and a Chromium on the PATH (Debian: apt-get install chromium).
"""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("playwright")

from browsing import VIEWS, choose, click, expect_names, named, place, said, show, slide, stage, words
from playwright.sync_api import expect

from vitrail import compress
from vitrail.explain.overlay import scaled
from vitrail.explain.query_attention import query_attention
from vitrail.predictor import Predictor
from vitrail.tasks import features

PHONE = {"viewport": {"width": 375, "height": 667}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def predictors(tiny_predictor):
    return {"small": tiny_predictor(), "deep": tiny_predictor(depth=4, heads=4, resize="square", patch_size=4)}


def test_a_dropped_picture_is_named(visit, photo, predictors):
    page = visit()
    page.evaluate(
        """([bytes, name, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            for (const kind of ["dragover", "drop"])
                document.body.dispatchEvent(new DragEvent(kind, { dataTransfer: transfer, bubbles: true }));
        }""",
        [list(photo["buffer"]), "photo.png", "image/png"],
    )
    expect_names(page, photo, predictors["small"])


def test_a_pasted_picture_is_named(visit, photo, predictors):
    page = visit()
    page.evaluate(
        """([bytes, name, type]) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], name, { type }));
            document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        }""",
        [list(photo["buffer"]), "photo.png", "image/png"],
    )
    expect_names(page, photo, predictors["small"])


@pytest.mark.parametrize("patch", [0, 5])
def test_a_clicked_patch_shows_what_it_attends_to_in_every_layer_and_head(patch, visit, photo, predictors):
    page, predictor = visit(), predictors["small"]
    choose(page, photo)
    click(page, predictor, patch)
    weights = query_attention(predictor.task, predictor.tensor(photo["buffer"]), patch)
    for layer in (0, 1):
        slide(page, "Layer", layer)
        for head, name in ((-1, "mean of 2 heads"), (0, "head 0"), (1, "head 1")):
            slide(page, "Head", head)
            expected = weights[layer].mean(axis=0) if head < 0 else weights[layer, head]
            words(page, f"This patch in layer {layer}, {name}.")
            rest = 1 - expected.sum()
            words(page, f"{100 * rest:.{1 if rest < 0.1 else 0}f} % goes to tokens that are no patch")
            said(page, f"{named(patch)}, layer {layer}, {name}, attends most to {named(expected.argmax())}")


def test_the_class_token_again(visit, photo, predictors):
    page = visit()
    choose(page, photo)
    again = page.get_by_role("button", name="Class token")
    expect(again).to_be_disabled()
    words(page, "The class token in layer 1")
    click(page, predictors["small"], 2)
    words(page, "This patch in layer 1")
    again.click()
    words(page, "The class token in layer 1")


def test_heat_is_scaled_as_the_library_scales_it(visit):
    page, values = visit(), torch.rand(40).tolist()
    for each in (values, [2.0] * 6, [0.0] * 50 + [1.0]):
        found = page.evaluate("async (values) => (await import('/page/draw.js')).scaled(values)", each)
        np.testing.assert_allclose(found, scaled(np.array(each, np.float32)), atol=1e-5)


def test_what_is_painted_is_the_heat(visit, photo, predictors):
    """The warmest patch is painted the most opaque, the coldest the least."""
    page, predictor = visit(), predictors["small"]
    choose(page, photo)
    slide(page, "Head", 1)
    words(page, "head 1")
    opacity = page.evaluate(
        """(places) => {
            const { width, height } = document.querySelector("canvas");
            const { data } = document.querySelector("canvas").getContext("2d").getImageData(0, 0, width, height);
            return places.map(([x, y]) => data[4 * (Math.floor(y * height) * width + Math.floor(x * width)) + 3]);
        }""",
        [place(predictor, patch) for patch in range(6)],
    )
    heat = scaled(query_attention(predictor.task, predictor.tensor(photo["buffer"]))[-1, 1]).ravel()
    np.testing.assert_allclose(np.array(opacity) / 255, 0.15 + 0.6 * heat, atol=0.02)


@pytest.mark.parametrize("view", ["Grad-CAM", "Relevance", "Rollout"])
def test_explanations(view, visit, photo):
    page = visit()
    choose(page, photo)
    with page.expect_response(lambda answer: "/v1/explain" in answer.url) as first:
        show(page, view)
    assert first.value.status == 200
    expect(page.locator(".words")).to_contain_text(re.compile(view, re.IGNORECASE))
    if view != "Relevance":
        with page.expect_response(lambda answer: "layer=0" in answer.url):
            slide(page, "Layer", 0)
        words(page, "layer 0")
    if view != "Rollout":
        last = page.locator(".bars button").last
        label = last.locator(".label").inner_text()
        with page.expect_response(lambda answer: f"target={label}" in answer.url):
            last.click()
        words(page, f"for {label}")
        expect(page.get_by_role("button", pressed=True)).to_contain_text(label)


def test_merging_shows_the_tokens_that_remain(visit, photo, predictors):
    page, predictor = visit(), predictors["small"]
    choose(page, photo)
    show(page, "Merging")
    for r in (1, 2, 3):
        slide(page, "Merge", r)
        with torch.inference_mode():
            smaller = compress.apply(predictor, "tome", r=r)
            merged = smaller.task.vit(smaller.tensor(photo["buffer"]))
        words(page, f"After layer 1: {merged.remaining.shape[1]} tokens of 6 patches.")
        label, score = smaller.predict(photo["buffer"]).top(1)[0]
        expect(page.locator(".bars li").first).to_contain_text(f"{label}")
        expect(page.locator(".bars li").first).to_contain_text(f"{100 * score:.1f} %")
    source = merged.source[0].tolist()
    click(page, predictor, 4)
    mine = source.count(source[4])
    words(page, f"stands for {mine} {'patch' if mine == 1 else 'patches'}.")
    slide(page, "Layer", 0)
    words(page, "After layer 0: 3 tokens of 6 patches.")


def test_by_keyboard_alone(visit, photo, predictors):
    page = visit()
    choose(page, photo)
    seen = set()
    page.locator("body").press("Home")
    for _ in range(20):
        page.keyboard.press("Tab")
        outline = page.evaluate(
            """() => {
                const at = document.activeElement;
                const marked = [at, at.nextElementSibling, at.parentElement].filter(Boolean);
                return [at.id || at.tagName, marked.some((each) => getComputedStyle(each).outlineStyle !== "none")];
            }"""
        )
        if outline[0] != "BODY":
            assert outline[1], f"the focus on {outline[0]} cannot be seen"
            seen.add(outline[0])
        if outline[0] == "CANVAS":
            break
    assert {"model", "other", "file", "language", "CANVAS"} <= seen
    patches = []
    for key, patch in (("ArrowDown", 4), ("ArrowLeft", 3), ("ArrowUp", 0), ("ArrowUp", 0), ("ArrowRight", 1)):
        page.keyboard.press(key)
        said(page, f"This patch, {named(patch)}, layer 1")
        patches.append(patch)
    page.keyboard.press("Escape")
    words(page, "The class token")
    page.get_by_role("radio", name="Attention").focus()
    page.keyboard.press("ArrowRight")
    words(page, "Grad-CAM")
    page.get_by_role("slider", name="Layer").focus()
    page.keyboard.press("ArrowLeft")
    words(page, "layer 0")


def test_two_models_side_by_side(visit, photo, predictors):
    page, deep = visit(), predictors["deep"]
    choose(page, photo)
    expect(page.get_by_role("region")).to_have_count(1)
    page.get_by_label("Compare with").select_option("deep")
    panels = page.get_by_role("region")
    expect(panels).to_have_count(2)
    for panel, predictor in zip(panels.all(), predictors.values(), strict=True):
        expect(panel.locator(".bars li").first).to_contain_text(predictor.predict(photo["buffer"]).label)
    slide(page, "Layer", 1)
    expect(panels.first.locator(".words")).to_contain_text("layer 0, mean of 2 heads")
    expect(panels.last.locator(".words")).to_contain_text("layer 1, mean of 4 heads")
    with page.expect_response(lambda answer: "model=deep&patch=" in answer.url) as asked:
        click(page, predictors["small"], 4)
    x, y = place(predictors["small"], 4)
    left, top, right, bottom = deep.preprocess.region((60, 80))
    column, row = int((x * 80 - left) / (right - left) * 6), int((y * 60 - top) / (bottom - top) * 4)
    assert asked.value.url.endswith(f"patch={row * 6 + column}"), "the same place in the picture"
    for view in VIEWS:
        show(page, view)
        expect(page.locator(".panel[aria-busy=false]")).to_have_count(2)
        expect(page.locator(".failed")).to_have_count(0)
    page.get_by_label("Compare with").select_option(label="nothing")
    expect(page.get_by_role("region")).to_have_count(1)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone(scheme, visit, photo, predictors):
    page = visit(**PHONE, color_scheme=scheme)
    choose(page, photo)
    page.get_by_label("Compare with").select_option("deep")
    for view in VIEWS:
        show(page, view)
        expect(page.locator(".panel[aria-busy=false]")).to_have_count(2)
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{view} is wider than the phone"
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, select, .views label, .button, input[type=range]")]
            .filter((each) => each.offsetParent && each.getBoundingClientRect().height < 24)
            .map((each) => each.outerHTML)"""
    )
    assert small == [], "too small for a finger"
    show(page, "Attention")
    box = stage(page).bounding_box()
    x, y = place(predictors["small"], 0)
    stage(page).tap(position={"x": x * box["width"], "y": y * box["height"]})
    said(page, named(0))
    ink, paper = page.evaluate(
        "[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]"
    )
    assert (brightness(ink) > brightness(paper)) == (scheme == "dark")


def brightness(colour):
    return sum(map(int, re.findall(r"\d+", colour)[:3]))


def test_a_picture_that_comes_before_the_models_waits_for_them(visit, photo, predictors):
    page, held = visit(), []
    page.route("**/v1/models*", lambda route: held.append(route))
    page.reload()
    page.get_by_label("Choose a picture").set_input_files(photo)
    expect(page.get_by_label("Choose a picture")).to_have_value("")  # it was taken
    held[0].continue_()
    expect_names(page, photo, predictors["small"])


def test_nothing_moves_for_who_wants_it_still(visit, photo):
    page = visit(reduced_motion="reduce")
    choose(page, photo)
    moving = "(each) => [getComputedStyle(each).transitionProperty, getComputedStyle(each).transitionDuration]"
    assert page.locator(".bar i").first.evaluate(moving)[0] == "none"


def test_a_large_photo_is_shrunk_before_it_is_sent(visit):
    file = io.BytesIO()
    Image.effect_noise((3000, 1500), 40).convert("RGB").save(file, "JPEG", quality=60)
    page = visit()
    choose(page, {"name": "large.jpg", "mimeType": "image/jpeg", "buffer": file.getvalue()})
    shown = page.get_by_alt_text("Your picture").evaluate("(image) => [image.naturalWidth, image.naturalHeight]")
    assert shown == [2048, 1024], "what is shown is what was sent"
    show(page, "Picture")
    words(page, "Shrunk to at most 2048 pixels a side before it was sent.")


def test_numbers_and_nothing(visit, photo, tiny_predictor):
    numbers = tiny_predictor("regression")
    nameless = features.Task(features.Config(model=numbers.task.config.model))
    nameless = Predictor(nameless, numbers.preprocess.config, device="cpu")
    page = visit(models={"size": numbers, "features": nameless})
    choose(page, photo)
    expect(page.locator(".numbers dt")).to_have_text(["height", "weight"])
    page.get_by_role("combobox", name="Model").select_option("features")
    expect(page.locator(".answer")).to_contain_text("This model names nothing")
    for view in VIEWS:
        show(page, view)
        expect(page.locator(".panel[aria-busy=false]")).to_have_count(1)
