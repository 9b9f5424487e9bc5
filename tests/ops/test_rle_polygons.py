"""Run lengths and polygons against the COCO API."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from vitrail.ops import polygons, rle

sizes = st.tuples(st.integers(1, 12), st.integers(1, 12))
masks = sizes.flatmap(lambda size: arrays.arrays(np.bool_, size))


@given(masks)
def test_a_mask_survives_both_kinds_of_run_lengths(mask: np.ndarray) -> None:
    counts = rle.encode(mask)
    np.testing.assert_array_equal(rle.decode(counts, mask.shape), mask)
    np.testing.assert_array_equal(rle.from_text(rle.to_text(counts)), counts)


@given(masks)
def test_run_lengths_are_those_of_the_coco_api(mask: np.ndarray) -> None:
    reference = pytest.importorskip("pycocotools.mask")
    theirs = reference.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    assert rle.to_text(rle.encode(mask)) == theirs


def test_long_runs_as_text() -> None:
    counts = np.array([0, 3_000_000, 7, 1, 2_999_999, 31, 32])
    np.testing.assert_array_equal(rle.from_text(rle.to_text(counts)), counts)


@given(st.data())
def test_polygons_are_filled_as_by_the_coco_api(data: st.DataObject) -> None:
    reference = pytest.importorskip("pycocotools.mask")
    size = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    corner = st.tuples(*(st.integers(-60, 10 * side + 60).map(lambda value: value / 10) for side in size[::-1]))
    rings = [np.array(data.draw(st.lists(corner, min_size=3, max_size=9))) for _ in range(data.draw(st.integers(1, 3)))]
    theirs = reference.merge(reference.frPyObjects([ring.ravel().tolist() for ring in rings], *size))["counts"]
    assert rle.to_text(rle.encode(polygons.fill(rings, size))) == theirs.decode()


@given(masks)
def test_the_outline_in_one_ring_is_the_mask_again(mask: np.ndarray) -> None:
    rings = polygons.outline(mask)
    if not mask.any():
        assert rings == []
        return
    np.testing.assert_array_equal(polygons.fill([polygons.join(rings)], mask.shape), mask)


def test_a_hole_and_a_neighbour_that_touches_at_a_corner() -> None:
    mask = np.zeros((8, 9), bool)
    mask[1:5, 1:5], mask[2:4, 2:4], mask[5:7, 5:8] = True, False, True
    rings = polygons.outline(mask)
    assert sum(len(ring) for ring in rings) == 12
    assert {tuple(corner) for ring in rings for corner in ring.tolist()} >= {(1, 1), (2, 2), (5, 5), (8, 7)}


@pytest.mark.parametrize("text", ["é", "0P", " "])
def test_text_that_is_no_run_lengths(text: str) -> None:
    with pytest.raises(ValueError):
        rle.from_text(text)


def test_runs_that_do_not_fill_the_picture() -> None:
    with pytest.raises(ValueError, match="runs of 5 pixels for 2 × 3"):
        rle.decode([2, 3], (2, 3))
