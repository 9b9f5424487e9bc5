from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import UserError
from vitrail.ops.tiles import Tile, TileConfig, TileGrid, blended

SIDES = st.integers(1, 60)
GRIDS = st.builds(
    lambda size, tile, overlap: TileGrid(size, TileConfig(size=tile, overlap=overlap)),
    st.tuples(SIDES, SIDES),
    st.tuples(SIDES, SIDES),
    st.floats(0, 0.9),
)


@settings(max_examples=100, deadline=None)
@given(GRIDS)
def test_tiles_of_one_size_cover_the_picture_overlap_enough_and_are_as_few_as_can_be(grid):
    for spans, length, tile in zip((grid.rows, grid.columns), grid.size, grid.config.size, strict=True):
        assert all(end - start == min(tile, length) for start, end in spans)
        assert (spans[0][0], spans[-1][1]) == (0, length)
        overlaps = [end - start for (_, end), (start, _) in pairwise(spans)]
        least = min(int(np.ceil(tile * grid.config.overlap)), tile - 1)
        assert all(overlap >= least for overlap in overlaps)
        if len(spans) > 1:  # one fewer would overlap less
            assert (len(spans) - 1) * (tile - least) + least < length
    assert len(grid) == len(list(grid))


def dense(parts, grid):
    """Independent of bands and of separable sums: the weighted mean over every tile at once."""
    down = {rows: feather(rows, grid.rows) for rows in grid.rows}
    across = {columns: feather(columns, grid.columns) for columns in grid.columns}
    total, weight = 0.0, np.zeros(grid.size)
    for tile, values in parts:
        own, placed = np.zeros(grid.size), np.zeros((len(values), *grid.size))
        own[slice(*tile.rows), slice(*tile.columns)] = np.outer(down[tile.rows], across[tile.columns])
        placed[:, slice(*tile.rows), slice(*tile.columns)] = values
        total, weight = total + placed * own, weight + own
    return total / weight


def feather(span, spans):
    start, end = span
    place = spans.index(span)
    before, after = spans[place - 1] if place else None, spans[place + 1] if place + 1 < len(spans) else None
    values = np.ones(end - start)
    for pixel in range(start, end):
        if before and before[1] > start:
            values[pixel - start] = min(values[pixel - start], (pixel + 0.5 - start) / (before[1] - start))
        if after and after[0] < end:
            values[pixel - start] = min(values[pixel - start], (end - pixel - 0.5) / (end - after[0]))
    return values


@settings(max_examples=60, deadline=None)
@given(GRIDS, st.integers(1, 9))
def test_blending_is_the_weighted_mean_of_all_tiles_whatever_their_bands(grid, step):
    generator = torch.Generator().manual_seed(0)
    parts = [(tile, torch.randn(2, *tile.size, generator=generator)) for tile in grid]

    def bands(values):
        for start in range(0, values.shape[1], step):
            rows = slice(start, min(start + step, values.shape[1]))
            yield rows, values[:, rows]

    found = torch.cat(list(blended(((tile, bands(values)) for tile, values in parts), grid)), dim=1)
    np.testing.assert_allclose(found, dense([(t, v.double().numpy()) for t, v in parts], grid), atol=1e-5)


def test_a_picture_of_one_tile_keeps_its_numbers_to_the_bit_and_a_seam_does_not_show():
    one = TileGrid((20, 30), TileConfig(size=(64, 64)))
    values = torch.randn(3, 20, 30)
    assert torch.equal(torch.cat(list(blended([(Tile((0, 20), (0, 30)), [(slice(0, 20), values)])], one)), 1), values)
    two = TileGrid((8, 100), TileConfig(size=(8, 64), overlap=0.25))
    levels = [torch.full((1, *tile.size), float(place)) for place, tile in enumerate(two)]
    row = torch.cat(list(blended([(t, [(slice(0, 8), v)]) for t, v in zip(two, levels, strict=True)], two)), 1)[0, 0]
    overlap = two.columns[0][1] - two.columns[1][0]
    assert row[0] == 0
    assert row[-1] == 1
    assert row.diff().min() >= 0
    assert row.diff().max() <= 1 / overlap + 1e-6


def test_no_more_than_a_row_of_tiles_is_held():
    grid = TileGrid((400, 40), TileConfig(size=(40, 40), overlap=0.25))
    assert (
        max(band.shape[1] for band in blended(((t, [(slice(0, 40), torch.ones(1, 40, 40))]) for t in grid), grid)) <= 40
    )


@pytest.mark.parametrize("overlap", [1, 1.5, -0.1])
def test_an_overlap_is_a_share(overlap):
    with pytest.raises(UserError, match="overlap"):
        TileConfig(size=64, overlap=overlap)
