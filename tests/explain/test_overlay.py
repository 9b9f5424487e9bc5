from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.explain import Heat
from vitrail.explain.overlay import outline, overlay, scaled, sheet

rng = np.random.default_rng(0)


def warmth(picture):
    """How coloured each pixel is: the picture itself becomes grey, heat does not."""
    pixels = np.asarray(picture, np.int32)
    return np.ptp(pixels, axis=2)


@pytest.mark.parametrize("size", [(400, 400), (300, 900), (900, 300), (2000, 1500), (20, 30)])
@pytest.mark.parametrize("resize", ["crop", "square", "pad"])
@pytest.mark.parametrize("place", [(0, 0), (1, 2), (3, 3)])
def test_heat_lies_where_its_patch_was_in_the_picture(size, resize, place):
    """A white dot's patch is found after preprocessing; the heat of that patch must cover the dot."""
    height, width = size
    preprocess = Preprocess(PreprocessConfig(size=(64, 64), resize=resize, crop_pct=0.9, interpolation="bilinear"))
    left, top, right, bottom = preprocess.region(size)
    y = top + (place[0] + 0.5) / 4 * (bottom - top)
    x = left + (place[1] + 0.5) / 4 * (right - left)
    if not (0 <= y < height and 0 <= x < width):
        assert resize == "pad"  # the patch lies on the border
        return
    pixels = np.full((height, width, 3), 128, np.uint8)  # what padding adds is like it
    reach = max(min(height, width) // 40, 1)
    pixels[max(int(y) - reach, 0) : int(y) + reach + 1, max(int(x) - reach, 0) : int(x) + reach + 1] = 255
    picture = Image.fromarray(pixels)
    seen = preprocess(picture).mean(0).reshape(4, 16, 4, 16).mean((1, 3))
    found = np.unravel_index(int(seen.argmax()), (4, 4))
    assert tuple(map(int, found)) == place, "region agrees with what preprocessing does"
    values = np.zeros((4, 4), np.float32)
    values[place] = 1
    drawn = overlay(picture, Heat("", values), (left, top, right, bottom))
    scale = drawn.width / width
    heat = warmth(drawn)
    assert heat[min(int(y * scale), drawn.height - 1), min(int(x * scale), drawn.width - 1)] > 60
    far_y, far_x = (height - 1 - y) * scale, (width - 1 - x) * scale
    if abs(far_y - y * scale) > drawn.height / 3:
        assert heat[int(far_y), int(far_x)] < 40


def test_what_the_model_did_not_see_is_dim_and_without_heat():
    picture = Image.fromarray(np.full((400, 800, 3), 200, np.uint8))
    drawn = np.asarray(overlay(picture, Heat("", rng.random((4, 4), np.float32)), (200, 0, 600, 400)))
    assert (drawn[:, :199] == 70).all()
    assert (drawn[:, 601:] == 70).all()
    assert (drawn[:, 205:595].max(axis=2) > 80).all()


@pytest.mark.parametrize(
    ("size", "expected"), [((8, 8), (320, 320)), ((500, 400), (500, 400)), ((4096, 2048), (1024, 512))]
)
def test_overlays_have_a_legible_size(size, expected):
    picture = Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    region = (0, 0, *map(float, size))
    assert overlay(picture, Heat("", rng.random((2, 2), np.float32)), region).size == expected
    assert outline(picture, region).size == expected


def test_scaled_saturates_instead_of_letting_an_outlier_hide_the_rest():
    values = rng.random((14, 14)).astype(np.float32)
    values[0, 0] = 1000
    heat = scaled(values)
    assert heat.min() == 0
    assert heat.max() == 1
    assert 0.3 < np.median(heat) < 0.7


def test_scaled_of_a_constant_is_no_heat_and_of_one_spot_is_that_spot():
    assert not scaled(np.full((3, 3), 0.7, np.float32)).any()
    spot = np.zeros((14, 14), np.float32)
    spot[5, 6] = 0.1
    assert np.array_equal(scaled(spot), (spot > 0).astype(np.float32))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_pictures_of_any_mode_and_none_is_changed(mode):
    picture = Image.effect_noise((64, 48), 80).convert(mode)
    before = picture.tobytes()
    drawn = overlay(picture, Heat("", rng.random((3, 4), np.float32)), (0, 0, 64, 48))
    assert drawn.mode == "RGB"
    assert picture.tobytes() == before


def test_a_sheet_shows_the_picture_and_every_map():
    picture = Image.effect_noise((64, 48), 80)
    heats = [Heat(f"map {i}", rng.random((3, 4), np.float32)) for i in range(7)]
    figure = sheet(picture, heats, (0, 0, 64, 48), "the picture")
    assert [axis.get_title() for axis in figure.axes if axis.images] == ["the picture", *(h.title for h in heats)]
