"""Training on tiles: which are drawn, and what they keep of the targets."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from vitrail.data import DataConfig, Objects, PreprocessConfig, SceneAugmentConfig, SourceConfig, open_data, targets
from vitrail.data.segments import Segments
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.tile_augment import TileAugment, TileSampling, drawn
from vitrail.ops import boxes
from vitrail.ops.tiles import TileConfig

MASKS, BOXES, SEMANTIC = (targets.load(name) for name in ("masks", "boxes", "semantic"))
NONE = torch.zeros(0, 4)


def objects(placed, size, *, masks=False, crowd=None):
    count, shown = len(placed), torch.zeros(len(placed), *size, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(shown, placed, strict=True):
        mask[top:bottom, left:right] = True
    flags = torch.zeros(count, dtype=torch.bool) if crowd is None else torch.tensor(crowd)
    return Objects(torch.tensor(placed).float(), torch.arange(count), flags, size, 0, shown if masks else None)


@settings(max_examples=100, deadline=None)
@given(st.tuples(*[st.integers(1, 90)] * 2), st.tuples(*[st.integers(1, 60)] * 2), st.integers(0, 2**63), st.data())
def test_a_tile_around_an_object_lies_in_the_picture_and_shows_all_that_fits(size, tile, key, data):
    starts = [data.draw(st.integers(0, side - 1)) for side in size]
    ends = [data.draw(st.integers(start + 1, side)) for start, side in zip(starts, size, strict=True)]
    box = torch.tensor([[starts[1], starts[0], ends[1], ends[0]]]).float()
    found = drawn(size, tile, box, 0.0, key)
    assert found == drawn(size, tile, box, 0.0, key)
    assert found.size == (min(tile[0], size[0]), min(tile[1], size[1]))
    for (first, last), start, end, side in zip(found, starts, ends, size, strict=True):
        assert 0 <= first <= last <= side
        assert (first <= start and end <= last) if end - start <= last - first else (start <= first and last <= end)


def test_objects_and_places_are_drawn_evenly_and_background_at_its_share():
    size, tile = (400, 400), (100, 100)
    placed = torch.tensor([[10, 10, 30, 30], [300, 300, 320, 320]]).float()
    tiles = [drawn(size, tile, placed, 0.3, key) for key in range(1000)]
    shown = np.array([(_inside(placed, each)).tolist() for each in tiles])
    np.testing.assert_allclose(shown.mean(axis=0), [0.35, 0.35], atol=0.05)
    assert (~shown.any(axis=1)).mean() == pytest.approx(0.3, abs=0.05)
    first = [each.rows[0] for each, (_, second) in zip(tiles, shown, strict=True) if second]
    assert (min(first), max(first)) == pytest.approx((220, 300), abs=3)
    everywhere = {drawn(size, tile, NONE, 0.0, key) for key in range(50)}
    assert len(everywhere) > 40
    full = torch.tensor([[0, 0, 400, 400]]).float()
    assert len({drawn(size, tile, full, 1.0, key) for key in range(50)}) > 40  # nowhere is background


def _inside(placed, tile):
    left, top, right, bottom = tile.box_xyxy
    return (placed[:, 0] >= left) & (placed[:, 1] >= top) & (placed[:, 2] <= right) & (placed[:, 3] <= bottom)


@pytest.mark.parametrize("masks", [False, True])
def test_what_lies_outside_is_dropped_and_what_is_cut_kept_by_its_visible_share(masks):
    placed = [(10, 10, 20, 20), (45, 0, 55, 10), (48, 20, 58, 30), (49, 40, 69, 50), (60, 0, 70, 10), (0, 45, 50, 50)]
    found = objects(placed, (50, 80), masks=masks)
    kind = MASKS if masks else BOXES
    geometry = ImageGeometry((0, 0, 50, 50), (50, 50), (50, 80))
    kept = kind.cut_out(found, geometry, 0.2)
    assert kept.labels.tolist() == [0, 1, 2, 5]
    assert kind.cut_out(found, geometry, 0.25).labels.tolist() == [0, 1, 5]
    assert kind.cut_out(found, geometry, 0.0).labels.tolist() == [0, 1, 2, 3, 5]
    assert kept.boxes_xyxy.tolist() == [[10, 10, 20, 20], [45, 0, 50, 10], [48, 20, 50, 30], [0, 45, 50, 50]]
    assert kept.size == (50, 50)
    if masks:
        torch.testing.assert_close(boxes.of_masks(kept.masks), kept.boxes_xyxy)


def test_the_box_of_a_cut_object_is_that_of_the_rest_of_its_mask():
    found = objects([(10, 10, 40, 40)], (60, 60), masks=True)
    found.masks[0] = torch.ones(60, 60).triu().bool() & found.masks[0]  # the upper right half
    kept = MASKS.cut_out(found, ImageGeometry((0, 0, 20, 60), (60, 20), (60, 60)), 0.1)
    assert kept.boxes_xyxy.tolist() == [[10, 10, 20, 20]]


@pytest.mark.parametrize("key", range(8))
def test_a_tile_at_the_inputs_size_is_the_pictures_own_pixels_with_its_targets(key):
    generator = np.random.default_rng(0)
    pixels = generator.integers(0, 256, (90, 120, 3), np.uint8)
    preprocess = PreprocessConfig(size=32, tiles=TileConfig(size=32))
    labels = torch.from_numpy(generator.integers(0, 3, (90, 120), np.uint8))
    augment = TileAugment(SceneAugmentConfig(), preprocess, SEMANTIC)
    assert augment.needed_side((90, 120), key) is None
    made = augment.scene(Image.fromarray(pixels), labels, key)
    tile = drawn((90, 120), (32, 32), NONE, 0.2, key)
    part = slice(*tile.rows), slice(*tile.columns)
    np.testing.assert_array_equal(made.pixels.permute(1, 2, 0), pixels[part])
    torch.testing.assert_close(made.target, labels[part])
    boxed = TileAugment(SceneAugmentConfig(), preprocess, BOXES, sampling=TileSampling(background=0))
    found = boxed.scene(Image.fromarray(pixels), objects([(70, 50, 90, 80)], (90, 120)), key)
    left, top, right, bottom = found.target.boxes_xyxy[0].int().tolist()
    np.testing.assert_array_equal(found.pixels[:, top:bottom, left:right].permute(1, 2, 0), pixels[50:80, 70:90])


@pytest.mark.parametrize("kind", ["boxes", "masks", "semantic"])
def test_loaders_draw_tiles_in_training_and_give_pictures_one_by_one_in_evaluation(kind, own_cache, tmp_path):
    config = DataConfig(
        source=SourceConfig(spec="digit_scenes", kind=kind, root=str(tmp_path), train_fraction=0.01),
        preprocess=PreprocessConfig(size=24, channels=1, tiles=TileConfig(size=32)).options(),
        scenes=SceneAugmentConfig(scale=(0.8, 1.2), mosaic=0 if kind == "semantic" else 0.5),
        loader={"batch_size": 4, "workers": 0},
    )
    data = open_data(config)
    batch = next(data.train_loader(seed=1).batches())
    assert batch["images"].shape == (4, 1, 24, 24)
    loader = data.eval_loader("val")
    batches = list(loader.batches())
    assert len(batches) == len(loader) == len(data.split("val"))
    assert batches[0]["index"].tolist() == [0]
    (tiled,) = batches[0]["tiled"]
    assert tiled.pixels.shape == (1, 64, 64)
    assert (len(tiled.grid), tiled.batch_size) == (9, 4)
    assert len(batches[0]["targets"]) == 1


def test_tiles_show_the_things_of_panoptic_targets():
    numbers = torch.zeros(90, 120, dtype=torch.int32)
    numbers[10:20, 30:50], numbers[40:45, 5:9], numbers[60:] = 2, 3, 1
    known = torch.tensor([False, False, False, False])
    things = torch.tensor([False, True, True, True])
    found = targets.load("panoptic").places(Segments(numbers, torch.zeros(4, dtype=torch.int64), known, things=things))
    assert found.tolist() == [[30, 10, 50, 20], [5, 40, 9, 45]]
    crowd = torch.tensor([False, True, False, False])
    found = targets.load("panoptic").places(Segments(numbers, torch.zeros(4, dtype=torch.int64), crowd, things=things))
    assert found.tolist() == [[5, 40, 9, 45]]
