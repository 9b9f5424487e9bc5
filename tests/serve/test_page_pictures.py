"""Several pictures on the page: the strip, a second picture, the order by likeness; languages; the endpoints."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("playwright")

from browsing import choose, click, show, words
from playwright.sync_api import expect

from vitrail import serve
from vitrail.explain import explain
from vitrail.explain.maps import scaled

PAGE = Path(serve.__file__).parent / "page"
DRAWN = """(canvas) => {
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    return new Set(new Uint32Array(data.buffer)).size;
}"""


def of_two(answer):
    """Whether the request had two pictures, as a form."""
    return answer.request.headers["content-type"].startswith("multipart/form-data")


@pytest.fixture
def photos(png):
    return [{"name": f"{i}.png", "mimeType": "image/png", "buffer": png(i, size=(60, 80))} for i in range(4)]


@pytest.fixture
def predictors(tiny_predictor):
    return {"small": tiny_predictor(), "deep": tiny_predictor(depth=4, heads=4, resize="square", patch_size=4)}


def test_a_second_picture_is_compared_with_the_first(visit, photos, predictors):
    page, predictor = visit(), predictors["small"]
    choose(page, photos[0])
    show(page, "Similar patches")
    expect(page.locator(".stage:visible")).to_have_count(1)
    with page.expect_response(lambda answer: "method=similarity" in answer.url and of_two(answer)):
        page.locator("#also").set_input_files(photos[1])
    expect(page.locator(".stage:visible")).to_have_count(2)
    with page.expect_response(lambda answer: "patch=2" in answer.url and of_two(answer)) as asked:
        click(page, predictor, 2)
    (found,) = asked.value.json()["maps"]
    first, second = (predictor.inputs(photo["buffer"]) for photo in photos[:2])
    (expected,) = explain(predictor.task, *second, "similarity", reference=first, patch=2, layer=1)
    np.testing.assert_allclose(found["values"], expected.values, atol=1e-5)
    words(page, "row 1, column 3")
    page.locator(".stage canvas").nth(1).focus()
    with page.expect_response(lambda answer: "patch=4" in answer.url):
        page.keyboard.press("ArrowDown")  # from nowhere to the middle
    show(page, "Colours")
    expect(page.locator(".panel[aria-busy=false]")).to_have_count(1)
    assert min(canvas.evaluate(DRAWN) for canvas in page.locator(".stage canvas").all()) > 6
    show(page, "Attention")
    expect(page.locator(".stage:visible")).to_have_count(1)
    show(page, "Colours")
    page.get_by_role("button", name="One picture").click()
    expect(page.locator(".stage:visible")).to_have_count(1)


def test_limits_and_colours_are_drawn_as_the_library_does(visit):
    page = visit()
    values = [0.1, 0.5, 0.9]
    found = page.evaluate("async (values) => (await import('/page/draw.js')).scaled(values, [0.2, 0.6])", values)
    np.testing.assert_allclose(found, scaled(np.array(values), (0.2, 0.6)), atol=1e-6)


def test_several_pictures_by_likeness(visit, photos, predictors):
    page, predictor = visit(), predictors["small"]
    page.locator("#file").set_input_files(photos)
    thumbs = page.locator(".thumb")
    expect(thumbs).to_have_count(4)
    labels = [predictor.predict(photo["buffer"]).label for photo in photos]
    for thumb, label in zip(thumbs.all(), labels, strict=True):
        expect(thumb).to_contain_text(label)
    page.get_by_role("button", name="Most alike first").click()
    vectors = np.stack([predictor.embed(photo["buffer"]) for photo in photos])
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-(vectors @ vectors[0]), kind="stable")
    for thumb, place in zip(thumbs.all(), order, strict=True):
        expect(thumb).to_have_attribute("title", re.compile(rf"Show {place}\.png"))
    with page.expect_response(lambda answer: "/v1/predict" in answer.url):
        page.locator(".thumb").nth(2).click()
    expect(page.get_by_role("button", name=re.compile(rf"Show {order[2]}\.png"))).to_have_attribute(
        "aria-pressed", "true"
    )
    page.get_by_role("button", name="Clear").click()
    expect(page.locator("#gallery")).to_be_hidden()


def test_only_other_models_are_offered_for_comparison(visit):
    page = visit()
    assert page.get_by_label("Compare with").locator("option").all_inner_texts() == ["nothing", "deep"]
    page.get_by_role("combobox", name="Model").select_option("deep")
    assert page.get_by_label("Compare with").locator("option").all_inner_texts() == ["nothing", "small"]


@pytest.mark.parametrize("size", [(120, 40), (40, 120)])
def test_no_gap_beside_a_picture_of_any_shape(size, visit, png):
    page = visit(viewport={"width": 1200, "height": 800})
    choose(page, {"name": "photo.png", "mimeType": "image/png", "buffer": png(1, size=size)})
    box, card = (page.locator(each).first.bounding_box() for each in (".stages", ".result"))
    image = page.locator(".stage img").first.bounding_box()
    assert box["width"] == pytest.approx(image["width"], abs=1)
    column = page.locator(".look").bounding_box()
    assert card["x"] - (column["x"] + column["width"]) == pytest.approx(22, abs=2)
    assert column["width"] - box["width"] < 150


def test_a_picture_from_the_camera(visit, predictors):
    page = visit()
    page.evaluate(
        """() => {
            const canvas = document.createElement("canvas");
            [canvas.width, canvas.height] = [80, 60];
            const pen = canvas.getContext("2d");
            setInterval(() => pen.fillRect(0, 0, 40 + 10 * Math.random(), 60), 50);
            navigator.mediaDevices.getUserMedia = async () => canvas.captureStream();
        }"""
    )
    page.get_by_role("button", name="Use the camera").click()
    page.wait_for_function("() => document.querySelector('video').videoWidth > 0")
    page.get_by_role("button", name="Take the picture").click()
    expect(page.locator(".bars li")).to_have_count(4)
    expect(page.locator("dialog[open]")).to_have_count(0)
    assert page.evaluate("document.querySelector('video').srcObject") is None


def test_no_camera_is_allowed(visit):
    page = visit()
    page.evaluate("() => { navigator.mediaDevices.getUserMedia = () => Promise.reject(new Error('no')); }")
    page.get_by_role("button", name="Use the camera").click()
    expect(page.get_by_role("alert")).to_contain_text("The camera cannot be used.")


def test_the_language_of_the_browser_and_the_other_one(visit, photo):
    page = visit(locale="zh-CN")
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    choose(page, photo)
    words(page, "类别 token")
    expect(page.get_by_role("radio", name="注意力")).to_be_checked()
    page.get_by_role("button", name="English").click()
    words(page, "The class token in layer 1")
    expect(page.get_by_role("radio", name="Attention")).to_be_checked()
    page.reload()
    expect(page.locator("#invitation")).to_have_text("See what a Vision Transformer attends to")


def test_every_text_of_the_page_has_its_chinese_one(visit):
    page = visit()
    table = page.evaluate("async () => (await import('/page/zh.js')).default")
    said = set()
    for path in PAGE.glob("*.js"):
        for call in re.findall(r"\bsay\(((?:[^()\"]|\"[^\"]*\")*)", path.read_text(encoding="utf-8")):
            said |= {text for text in re.findall(r"\"([^\"]*)\"", call.partition("{ ")[0]) if text and text != "head"}
    for path in PAGE.glob("*.html"):
        text = path.read_text(encoding="utf-8")
        said |= set(re.findall(r"data-say(?: hidden)?>([^<]+)<", text)) | set(
            re.findall(r'data-(?:label|alt)="([^"]+)"', text)
        )
    assert len(said) > 60
    assert sorted(said - table.keys()) == []
    for english, chinese in table.items():
        assert set(re.findall(r"{(\w+)}", english)) >= set(re.findall(r"{(\w+)}", chinese)), english


def test_every_route_can_be_called_from_its_page(visit, photo, predictors):
    page = visit(token="s3cret", refused=True)
    page.get_by_label("Token", exact=True).fill("s3cret")
    page.get_by_role("button", name="Continue").click()
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()
    page.get_by_role("link", name="How to call this server").click()
    routes = page.locator("details")
    expect(routes.filter(has_text="/v1/predict")).to_have_count(1)
    predict = routes.filter(has_text="/v1/predict")
    predict.locator("summary").click()
    predict.locator("input[type=file]").set_input_files(photo)
    predict.locator("label", has_text="top").locator("input").fill("2")
    expect(predict.locator(".curl")).to_contain_text(
        '/v1/predict?top=2\' \\\n  -H "Authorization: Bearer $VITRAIL_TOKEN"'
    )
    predict.get_by_role("button", name="Send").click()
    expect(predict.locator(".status")).to_contain_text("200")
    answer = json.loads(predict.locator("pre.answer").inner_text())
    assert [each["label"] for each in answer["predictions"][0]["top"]] == [
        label for label, _ in predictors["small"].predict(photo["buffer"]).top(2)
    ]
    drawn = routes.filter(has_text="/v1/explain")
    drawn.locator("summary").click()
    drawn.locator("label", has_text="format").locator("select").select_option("png")
    drawn.locator("input[type=file]").set_input_files(photo)
    drawn.get_by_role("button", name="Send").click()
    expect(drawn.locator("img.answer")).to_be_visible()
    healthy = routes.filter(has_text="/healthz")
    healthy.locator("summary").click()
    healthy.get_by_role("button", name="Send").click()
    expect(healthy.locator("pre.answer")).to_contain_text('"live": true')
