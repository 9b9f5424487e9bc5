"""Pictures of boxes, masks and maps: the colours are where the objects are."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vitrail.data.drawing import SMALLEST, colour, draw_map, draw_objects


def grey(height: int, width: int) -> Image.Image:
    return Image.fromarray(np.full((height, width, 3), 90, np.uint8))


def has(picture: Image.Image, label: int) -> np.ndarray:
    return (np.asarray(picture) == colour(label)).all(axis=2)


def test_boxes_are_drawn_in_the_colours_of_their_classes() -> None:
    picture = draw_objects(grey(400, 500), [[100, 120, 300, 320], [350, 20, 480, 390]], [2, 0], ["a", "b", "c"])
    assert picture.size == (500, 400)
    for label, (left, top, right, bottom) in ((2, (100, 120, 300, 320)), (0, (350, 20, 480, 390))):
        rows, columns = np.nonzero(has(picture, label))
        assert (columns.min(), columns.max(), rows.max()) == (left, right - 1, bottom - 1)
        assert top - 40 < rows.min() <= top
    assert not has(picture, 1).any()
    assert (np.asarray(picture)[200, 200] == 90).all()


def test_masks_are_shaded_and_small_pictures_enlarged() -> None:
    mask = np.zeros((1, 32, 32), bool)
    mask[0, 8:24, 10:20] = True
    picture = np.asarray(draw_objects(grey(32, 32), [[10, 8, 20, 24]], [1], ["a", "b"], masks=mask, scores=[0.5]))
    assert picture.shape == (SMALLEST, SMALLEST, 3)
    scale = SMALLEST // 32
    inner = picture[12 * scale : 22 * scale, 12 * scale : 18 * scale].reshape(-1, 3)
    assert len(np.unique(inner, axis=0)) == 1
    assert (inner[0] != 90).any()
    assert (picture[2 * scale, 2 * scale] == 90).all()


def test_an_object_at_the_border_and_none_at_all() -> None:
    plain = grey(390, 390)
    assert np.array_equal(np.asarray(draw_objects(plain, [], [], [])), np.asarray(plain))
    picture = draw_objects(plain, [[0, 0, 390, 4], [380, 380, 390, 390]], [0, 1], ["a long name " * 9, "b"])
    assert has(picture, 0).any()
    assert has(picture, 1).any()


def test_maps_have_a_legend_of_what_is_there() -> None:
    classes = np.zeros((40, 60), np.uint8)
    classes[10:20, 10:30], classes[30:, :], classes[:5] = 3, 1, 255
    picture = draw_map(grey(40, 60), classes, ["ground", "a", "b", "c"])
    assert picture.height > 40 * (picture.width // 60)
    assert [bool(has(picture, label).any()) for label in range(4)] == [False, True, False, True]
    assert (np.asarray(picture)[5, 5] == 90).all()


def test_neighbouring_classes_differ() -> None:
    colours = np.array([colour(label) for label in range(40)], float)
    assert np.linalg.norm(np.diff(colours, axis=0), axis=1).min() > 80
    apart = np.linalg.norm(colours[:12, None] - colours[None, :12], axis=2) + 999 * np.eye(12)
    assert apart.min() > 40
