from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrail.ops import boxes
from vitrail.ops.tile_merging import merged
from vitrail.ops.tiles import Tile, TileConfig, TileGrid

A, B, C = (0, 0, 640, 640), (512, 0, 1152, 640), (1024, 0, 1664, 640)


def found(*rows, tiles=(A, B, C)):
    """(label, score, box, tile) → (label, score, box, parts) of what is left, a class at a time."""
    labels, scores, placed, own = zip(*rows, strict=True)
    outputs = torch.zeros(len(rows), 2 + 4, dtype=torch.float64)
    outputs[torch.arange(len(rows)), torch.tensor(labels)] = torch.tensor(scores, dtype=torch.float64)
    outputs[:, 2:] = torch.tensor(placed, dtype=torch.float64)
    every = [Tile((top, bottom), (left, right)) for left, top, right, bottom in tiles]
    result = merged(outputs, torch.tensor([tiles.index(each) for each in own]), every)
    objects = [
        (label, round(score, 6), [round(side, 6) for side in row[2:].tolist()], parts)
        for row, parts in zip(result.rows, result.parts, strict=True)
        for label, score in enumerate(row[:2].tolist())
        if score
    ]
    return sorted(objects, key=lambda each: -each[1])


@pytest.mark.parametrize(
    ("rows", "expected"),
    [
        pytest.param(
            [(0, 0.95, (600, 100, 640, 200), A), (0, 0.9, (600, 101, 700, 201), B)],
            [(0, 0.9, [600, 101, 700, 201], [1])],
            id="whole in one tile, surer where it is cut",
        ),
        pytest.param(
            [(0, 0.9, (630, 110, 640, 150), A), (0, 0.8, (632, 100, 760, 200), B)],
            [(0, 0.8, [632, 100, 760, 200], [1])],
            id="a sliver of a whole one",
        ),
        pytest.param(
            [(0, 0.9, (530, 100, 600, 200), A), (0, 0.95, (531, 101, 601, 201), B)],
            [(0, 0.925, [530.513514, 100.513514, 600.513514, 200.513514], [1])],
            id="whole in both",
        ),
        pytest.param(
            [(0, 0.9, (300, 100, 640, 200), A), (0, 0.8, (512, 101, 800, 201), B)],
            [(0, round((0.9 * 340 + 0.8 * 288) / 628, 6), [300, 100, 800, 201], [0, 1])],
            id="whole in none",
        ),
        pytest.param(
            [
                (0, 0.9, (300, 100, 640, 200), A),
                (0, 0.8, (512, 101, 1152, 201), B),
                (0, 0.85, (1024, 99, 1300, 199), C),
            ],
            [(0, round((0.9 * 340 + 0.8 * 640 + 0.85 * 276) / 1256, 6), [300, 99, 1300, 201], [0, 2, 1])],
            id="through three tiles",
        ),
        pytest.param(
            [(0, 0.9, (530, 100, 560, 200), A), (0, 0.8, (560, 100, 600, 200), B)],
            [(0, 0.45, [530, 100, 560, 200], [0]), (0, 0.4, [560, 100, 600, 200], [1])],
            id="neighbours, each of which one of two tiles that see it has not found",
        ),
        pytest.param(
            [(0, 0.9, (530, 100, 560, 200), A), (1, 0.8, (530, 100, 560, 200), B)],
            [(0, 0.45, [530, 100, 560, 200], [0]), (1, 0.4, [530, 100, 560, 200], [0])],
            id="two tiles take one for something else",
        ),
        pytest.param(
            [(0, 0.7, (530, 100, 560, 200), A), (1, 0.8, (530, 100, 560, 200), A), (1, 0.6, (530, 100, 560, 200), B)],
            [(1, 0.7, [530, 100, 560, 200], [1]), (0, 0.35, [530, 100, 560, 200], [0])],
            id="two things in one place",
        ),
        pytest.param(
            [(1, 0.95, (600, 100, 640, 200), A), (0, 0.8, (600, 100, 700, 200), B)],
            [(0, 0.8, [600, 100, 700, 200], [1])],
            id="mistaken where it is cut",
        ),
        pytest.param(
            [(1, 0.95, (600, 100, 640, 140), A), (0, 0.8, (600, 100, 700, 200), B)],
            [(0, 0.8, [600, 100, 700, 200], [1])],
            id="a tile's border makes something of nothing",
        ),
        pytest.param(
            [(0, 0.9, (100, 100, 200, 200), A), (0, 0.8, (102, 100, 200, 200), A)],
            [(0, 0.9, [100, 100, 200, 200], [0]), (0, 0.8, [102, 100, 200, 200], [1])],
            id="one tile's are never merged",
        ),
        pytest.param(
            [(0, 0.9, (600, 100, 640, 200), A), (0, 0.1, (590, 90, 1000, 500), B)],
            [(0, 0.1, [600, 100, 640, 200], [0])],
            id="what is unsure does not move a box",
        ),
        pytest.param(
            [(0, 0.9, (0, 100, 100, 200), A), (0, 0.5, (700, 0, 760, 64), B)],
            [(0, 0.9, [0, 100, 100, 200], [0]), (0, 0.5, [700, 0, 760, 64], [1])],
            id="the picture's border cuts nothing",
        ),
    ],
)
def test_one_object_comes_out_once_and_whole(rows, expected):
    assert found(*rows) == expected
    assert sorted(found(*rows[::-1])) == sorted([(*e[:3], [len(rows) - 1 - part for part in e[3]]) for e in expected])


def test_nothing_found_is_nothing():
    tiles = [Tile((0, 640), (0, 640)), Tile((0, 640), (512, 1152))]
    result = merged(torch.zeros(0, 6), torch.zeros(0, dtype=torch.int64), tiles)
    assert (len(result.rows), result.parts) == (0, [])


def scene(generator, size, count, low, high):
    """Boxes apart from each other."""
    placed = np.zeros((0, 4))
    while len(placed) < count:
        sides = generator.uniform(low, high, 2)
        start = generator.uniform(0, np.array(size[::-1]) - sides)
        box = np.concatenate((start, start + sides))
        if not len(placed) or boxes.iou(torch.tensor(box), torch.tensor(placed)).max() < 0.05:
            placed = np.vstack((placed, box))
    return torch.tensor(placed, dtype=torch.float32)


@pytest.mark.parametrize(("low", "high", "noise"), [(10, 60, 0.03), (60, 200, 0.0), (60, 200, 0.03), (200, 330, 0.03)])
def test_what_an_ideal_detector_sees_of_each_tile_is_the_picture(low, high, noise):
    """Of objects up to larger than the overlap and than a tile: each tile's boxes are cut at its border, those of which
    it shows a quarter are found, and sides are off by a share of their length."""
    generator, size = np.random.default_rng(int(low + 100 * noise)), (900, 1200)
    grid = TileGrid(size, TileConfig(size=(256, 320), overlap=0.2))
    tiles = [tile.box_xyxy for tile in grid]
    lost = doubled = total = 0
    for _ in range(3):
        truth = scene(generator, size, 24 if high < 200 else 6, low, high)
        rows = []
        for tile in grid:
            own = torch.tensor(tile.box_xyxy)
            seen = torch.cat((torch.maximum(truth[:, :2], own[:2]), torch.minimum(truth[:, 2:], own[2:])), dim=1)
            for box in seen[boxes.area(seen) >= 0.25 * boxes.area(truth)]:
                side = (box[2:] - box[:2]).repeat(2)
                off = box + torch.tensor(generator.normal(0, noise, 4)) * side
                off = torch.cat((torch.maximum(off[:2], own[:2]), torch.minimum(off[2:], own[2:])))
                rows.append((0, float(generator.uniform(0.6, 1)), off.tolist(), tile.box_xyxy))
        result = torch.tensor([box for _, _, box, _ in found(*rows, tiles=tiles)])
        overlap = boxes.iou(result[:, None].double(), truth[None].double())
        total += len(truth)
        lost += int((overlap.amax(dim=0) < (0.75 if noise else 0.999)).sum())
        doubled += len(result) - len(truth)
    seen_by_none = high > 256  # larger than a tile: parts of less than a quarter are not found
    assert doubled == 0
    assert lost <= (1 if seen_by_none else 0), (lost, total)
