"""The page as a person sees it, against small pictures of it that were looked at: desktop and phone, light and dark.

What must not change unseen is the layout and the colours, so both pictures are compared at a sixth of their size, where
the shapes of letters, which depend on the installed fonts, are gone. After a change that is meant, look at what
``python -m pytest tests/serve/test_page_golden.py`` leaves in ``golden/new`` and put it in place of the old ones.
"""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("playwright")

from browsing import choose, show, words

GOLDEN = Path(__file__).parent / "golden"
SHRINK = 3  # of a CSS pixel to one of a golden picture
COARSE = 2  # and of that to one that is compared
FAR = 24  # grey levels by which a block differs visibly
SHARE = 0.03  # of the blocks, by which fonts and rounding may differ
SCREENS = {
    "desktop": {"viewport": {"width": 1200, "height": 780}},
    "phone": {"viewport": {"width": 375, "height": 780}, "has_touch": True, "is_mobile": True},
}


@pytest.fixture
def predictors(tiny_predictor):
    return {"small": tiny_predictor(image_size=(48, 48), resize="square")}


@pytest.fixture(scope="module")
def flower():
    """A photograph that scikit-learn comes with, small."""
    from sklearn.datasets import load_sample_image

    file = io.BytesIO()
    Image.fromarray(load_sample_image("flower.jpg")).resize((320, 213)).save(file, "PNG")
    return {"name": "flower.png", "mimeType": "image/png", "buffer": file.getvalue()}


def shrunk(picture: Image.Image, factor: int) -> Image.Image:
    return picture.resize((picture.width // factor, picture.height // factor), Image.Resampling.BOX)


def difference(before: Image.Image, after: Image.Image) -> float:
    """The share of the blocks that differ visibly; 1 for pictures of other sizes."""
    if before.size != after.size:
        return 1.0
    blocks = [np.asarray(shrunk(each.convert("RGB"), COARSE), np.float32) for each in (before, after)]
    return float((np.abs(blocks[0] - blocks[1]).max(axis=2) > FAR).mean())


def changed(page, name: str) -> str | None:
    """How what the page shows differs from the picture of that name; it is kept where it does."""
    found = shrunk(Image.open(io.BytesIO(page.screenshot(animations="disabled"))).convert("RGB"), SHRINK)
    path = GOLDEN / f"{name}.png"
    far = difference(Image.open(path), found) if path.is_file() else 1.0
    if far <= SHARE:
        return None
    (GOLDEN / "new").mkdir(parents=True, exist_ok=True)
    found.quantize(96, dither=Image.Dither.NONE).save(GOLDEN / "new" / path.name, optimize=True)
    return f"{far:.1%} of the page looks different: compare {path} with golden/new/{path.name}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("screen", SCREENS)
def test_the_page_looks_as_it_did(screen, scheme, visit, flower):
    page = visit(color_scheme=scheme, **SCREENS[screen])
    empty = changed(page, f"{screen}-{scheme}-empty")
    choose(page, flower)
    words(page, "The class token in layer 1")
    show(page, "Similar patches")
    words(page, "The warmer, the more like")
    assert [empty, changed(page, f"{screen}-{scheme}-similar")] == [None, None]


def test_a_moved_block_is_noticed():
    """What the comparison is for: a row of buttons that wraps moves all that lies below it."""
    before = Image.open(GOLDEN / "phone-light-similar.png").convert("RGB")
    moved = Image.new("RGB", before.size, before.getpixel((0, 0)))
    moved.paste(before, (0, 12))
    assert difference(before, moved) > 3 * SHARE
    assert difference(before, Image.open(GOLDEN / "phone-dark-similar.png")) > 0.5
