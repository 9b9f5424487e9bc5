from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from vitrail.ops import rle
from vitrail.ops.placed_masks import PlacedMask, composed
from vitrail.ops.tiles import Tile, TileConfig, TileGrid

MASKS = st.tuples(st.integers(1, 9), st.integers(1, 9)).flatmap(lambda shape: arrays(bool, shape))


@settings(max_examples=150, deadline=None)
@given(MASKS, st.tuples(*[st.integers(0, 3)] * 4))
def test_run_lengths_of_a_part_are_those_of_the_picture(mask, borders):
    top, left, below, right = borders
    whole = np.pad(mask, ((top, below), (left, right)))
    tile = Tile((top, top + mask.shape[0]), (left, left + mask.shape[1]))
    np.testing.assert_array_equal(rle.encode_placed(mask, (top, left), whole.shape), rle.encode(whole))
    placed = PlacedMask.of(mask, tile)
    assert placed.compressed(whole.shape) == rle.compressed(whole)
    painted = np.zeros(whole.shape, bool)
    placed.paint(painted)
    np.testing.assert_array_equal(painted, whole)


def test_each_pixel_is_of_the_first_part_that_shows_it():
    generator, grid = np.random.default_rng(0), TileGrid((40, 50), TileConfig(size=(24, 20), overlap=0.3))
    for _ in range(20):
        tiles = [list(grid)[place] for place in generator.permutation(len(grid))[:3]]
        masks = [generator.random(tile.size) < 0.3 for tile in tiles]
        expected, decided = np.zeros(grid.size, bool), np.zeros(grid.size, bool)
        for tile, mask in zip(tiles, masks, strict=True):
            for y in range(*tile.rows):
                for x in range(*tile.columns):
                    if not decided[y, x]:
                        expected[y, x] = mask[y - tile.rows[0], x - tile.columns[0]]
                        decided[y, x] = True
        found = np.zeros(grid.size, bool)
        composed([PlacedMask.of(mask, tile) for mask, tile in zip(masks, tiles, strict=True)]).paint(found)
        np.testing.assert_array_equal(found, expected)
