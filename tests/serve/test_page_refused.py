"""The page where something is wanting: a token, a picture, the server."""

from __future__ import annotations

import pytest

pytest.importorskip("playwright")

from browsing import choose, expect_names, slide, words
from playwright.sync_api import expect


def test_the_token_is_asked_for_and_kept_for_the_tab(visit, photo, predictors):
    page = visit(token="s3cret", refused=True)
    asking = page.get_by_role("dialog", name="This server asks for a token")
    for token in ("guess", "s3cret"):
        page.get_by_label("Token", exact=True).fill(token)
        asking.get_by_role("button", name="Continue").click()
        if token == "guess":
            expect(asking).to_contain_text("That token was not accepted")
    expect(asking).to_be_hidden()
    choose(page, photo)
    expect_names(page, photo, predictors["first"])
    assert "s3cret" not in page.url
    page.reload()
    expect(page.get_by_role("combobox", name="Model")).to_be_visible()
    expect(asking).to_be_hidden()
    assert page.evaluate("[localStorage.length, document.cookie]") == [0, ""]


def test_what_is_no_picture(visit, photo):
    page = visit()
    for name, content in (("notes.txt", b"hello"), ("empty.png", b""), ("page.jpg", b"<html>")):
        page.get_by_label("Choose a picture").set_input_files(
            {"name": name, "mimeType": "image/png", "buffer": content}
        )
        expect(page.get_by_role("alert")).to_contain_text(f"Your browser cannot open {name} as a picture")
    choose(page, photo)
    expect(page.get_by_role("alert")).to_be_hidden()


def test_refusals_of_the_server_in_plain_words(visit, photo, png):
    page = visit(refused=True, limits={"max_pixels": 2000})
    choose(page, photo)
    words(page, "The picture has 80 × 60 pixels, more than the limit of 2,000")
    choose(page, photo | {"buffer": png(1, size=(30, 40))})
    expect(page.locator(".bars li")).to_have_count(4)
    expect(page.locator(".failed")).to_have_count(0)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (500, "The server failed on this picture. Its log has the reason."),
        (503, "The server is busy."),
        (None, "not respond"),
    ],
)
def test_a_server_in_trouble(status, told, visit, photo):
    def trouble(route):
        if status is None:
            return route.abort()
        return route.fulfill(status=status, body='{"error": "internals"}', headers={"Retry-After": "0"})

    page = visit(refused=True)
    page.route("**/v1/attention*", trouble)
    choose(page, photo)
    words(page, told)
    page.unroute("**/v1/attention*")
    slide(page, "Layer", 0)
    words(page, "The class token in layer 0")
