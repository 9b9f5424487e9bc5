from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch

from vitrail.ops.panoptic import Found
from vitrail.ops.panoptic_tiles import stitched
from vitrail.ops.tiles import Tile, TileConfig, TileGrid

THINGS = (True, True, False, False)
SIZE = (150, 210)


def scene(seed: int, largest: int) -> tuple[torch.Tensor, list[int]]:
    """Numbers of segments (H, W), from 1 on, and their classes: two kinds of stuff, discs and a strip of nothing."""
    draws = np.random.default_rng(seed)
    numbers, labels = torch.ones(SIZE, dtype=torch.int64), [2, 3]
    numbers[SIZE[0] // 2 :] = 2
    numbers[:, 100:104] = 0
    y, x = torch.meshgrid(*(torch.arange(side) for side in SIZE), indexing="ij")
    for _ in range(60):
        centre, radius = draws.uniform((0, 0), SIZE), draws.uniform(3, largest)
        disc = (y - centre[0]).square() + (x - centre[1]).square() < radius**2
        if (numbers[disc] > 2).any():  # half covered, one might be in pieces
            continue
        numbers[disc] = len(labels) + 1
        labels.append(int(draws.integers(2)))
    return numbers, labels


def seen(numbers: torch.Tensor, labels: list[int], tile: Tile, draws: np.random.Generator) -> Found:
    """What an ideal model finds in a tile, in an order of its own."""
    part = numbers[slice(*tile.rows), slice(*tile.columns)]
    shown = [number for number in part.unique().tolist() if number]
    scores = np.sort(draws.uniform(0.5, 1, len(shown)).astype(np.float32))[::-1].copy()
    order = draws.permutation(shown).tolist()
    found = torch.zeros(part.shape, dtype=torch.int32)
    for place, number in enumerate(order, start=1):
        found[part == number] = place
    return Found(found, torch.tensor([labels[number - 1] for number in order]), torch.from_numpy(scores))


@pytest.mark.parametrize(("tile", "overlap"), [(64, 0.25), ((48, 90), 0.4), (40, 0.6), (300, 0.2)])
@pytest.mark.parametrize("largest", [12, 45])  # within the overlap, and larger than a tile
def test_what_an_ideal_model_finds_is_put_together(tile: int, overlap: float, largest: int) -> None:
    for seed in range(4):
        numbers, labels = scene(seed, largest)
        grid, draws = TileGrid(SIZE, TileConfig(size=tile, overlap=overlap)), np.random.default_rng(seed)
        parts = [(each, seen(numbers, labels, each, draws)) for each in grid]
        found = stitched(iter(parts), grid, THINGS)
        assert torch.equal(found.numbers == 0, numbers == 0)
        pairs = set(zip(found.numbers.flatten().tolist(), numbers.flatten().tolist(), strict=True)) - {(0, 0)}
        ours, theirs = (sorted(column) for column in zip(*pairs, strict=True))
        assert ours == [*range(1, len(ours) + 1)], "each segment of the picture once, and no other"
        assert len(set(theirs)) == len(theirs)
        assert all(labels[true - 1] == int(found.labels[own - 1]) for own, true in pairs)
        assert (found.scores.diff() <= 0).all()
        for own, true in pairs:
            best = [
                part.scores[part.numbers[numbers[slice(*t.rows), slice(*t.columns)] == true][0] - 1]
                for t, part in parts
                if (numbers[slice(*t.rows), slice(*t.columns)] == true).any()
            ]
            assert found.scores[own - 1] == max(best)


def test_one_tile_is_left_as_it_is() -> None:
    numbers, labels = scene(0, 20)
    grid = TileGrid(SIZE, TileConfig(size=SIZE))
    own = seen(numbers, labels, next(iter(grid)), np.random.default_rng(0))
    for found, expected in zip(stitched([(next(iter(grid)), own)], grid, THINGS), own, strict=True):
        assert torch.equal(found, expected)


def strip(*spans: tuple[int, int], score: float = 0.9) -> Found:
    """A row of 30 pixels with things of class 0."""
    numbers = torch.zeros(1, 30, dtype=torch.int32)
    for number, (start, end) in enumerate(spans, start=1):
        numbers[0, start:end] = number
    return Found(numbers, torch.zeros(len(spans), dtype=torch.int64), torch.full((len(spans),), score))


def test_two_things_of_one_tile_stay_two() -> None:
    """Also where a neighbour takes them for one."""
    grid = TileGrid((1, 40), TileConfig(size=(1, 30), overlap=0.6))
    left, right = strip((0, 14), (14, 30)), strip((0, 20))
    found = stitched(zip(grid, (left, right), strict=True), grid, THINGS)
    assert len(found.labels) == 2
    assert found.numbers[0, 5] != found.numbers[0, 16]


def test_what_one_tile_misses_another_one_shows() -> None:
    grid = TileGrid((1, 40), TileConfig(size=(1, 30), overlap=0.6))
    for left, right in itertools.permutations((strip((12, 28)), strip())):
        assert len(stitched(zip(grid, (left, right), strict=True), grid, THINGS).labels) == 1
