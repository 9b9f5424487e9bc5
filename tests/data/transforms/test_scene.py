"""Boxes, masks and class maps move with the pixels: there, back, and through every augmentation."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitrail.data import Objects, Preprocess, PreprocessConfig, SceneAugment, SceneAugmentConfig, targets
from vitrail.data.media.decode import BadImage
from vitrail.data.segments import Segments
from vitrail.data.transforms.colour import ColourConfig
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.scene import ScenePreprocess
from vitrail.data.transforms.scene_config import SCENE_PRESETS
from vitrail.errors import UserError
from vitrail.ops import boxes as box_ops
from vitrail.ops.segmentation_losses import IGNORE

BACK = (60, 90, 120)
MASKS, SEMANTIC = targets.load("masks"), targets.load("semantic")


def scene(height: int = 48, width: int = 64, num: int = 3) -> tuple[Image.Image, Objects]:
    """Rectangles, each of its own bright colour, on one dark colour; none touches another."""
    pixels = np.full((height, width, 3), BACK, np.uint8)
    masks = torch.zeros(num, height, width, dtype=torch.bool)
    for i in range(num):
        band = width // num
        left = i * band + int(torch.randint(1, band // 3, ()))
        right = left + int(torch.randint(band // 3, band // 2, ()))
        top = int(torch.randint(1, height // 2, ()))
        bottom = top + int(torch.randint(height // 4, height // 3, ()))
        masks[i, top:bottom, left:right] = True
        pixels[top:bottom, left:right] = 250 - 20 * i
    labels = torch.randint(0, 9, (num,))
    found = Objects(box_ops.of_masks(masks), labels, torch.zeros(num, dtype=torch.bool), (height, width), 7, masks)
    return Image.fromarray(pixels), found


regions = st.tuples(*[st.floats(-20, 60)] * 2, *[st.floats(5, 90)] * 2)


@given(regions, st.tuples(st.integers(8, 64), st.integers(8, 64)))
def test_boxes_come_back_where_they_were(region: tuple[float, ...], size: tuple[int, int]) -> None:
    left, top, width, height = region
    geometry = ImageGeometry((left, top, left + width, top + height), size, (100, 120))
    inside = torch.tensor([[left + 0.2 * width, top + 0.3 * height, left + 0.7 * width, top + 0.9 * height]])
    inside = torch.stack([inside[:, 0::2].clamp(0, 120), inside[:, 1::2].clamp(0, 100)], -1).reshape(-1, 4)
    torch.testing.assert_close(geometry.original_boxes(geometry.boxes(inside)), inside, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize("resize", ["square", "crop", "pad"])
@pytest.mark.parametrize("size", [(32, 32), (40, 56)])
def test_what_inference_sees_is_where_the_frame_says(resize: str, size: tuple[int, int]) -> None:
    image, objects = scene(48, 80)
    made = ScenePreprocess(PreprocessConfig(size=size, resize=resize), MASKS).scene(image, objects)
    bright = made.pixels[0].float() > 150
    union = made.target.masks.any(0)
    assert made.target.size == size
    assert (bright != union).float().mean() < 0.04  # the border of a smooth resize
    agree = (box_ops.of_masks(made.target.masks) - made.target.boxes_xyxy).abs()
    assert agree.max() <= 1
    assert (made.padding is not None) == (resize == "pad")
    if made.padding is not None:
        assert made.padding.any()
        assert not (made.padding & bright).any()
        assert (made.pixels[:, made.padding] == 128).all()  # the mean colour
        assert (made.pixels[:, ~made.padding].float().std() > 1).all()


def test_masks_return_to_the_original_pixels() -> None:
    _, objects = scene(48, 80)
    geometry = Preprocess(PreprocessConfig(size=96, resize="pad")).geometry((48, 80))
    back = geometry.original_objects(geometry.objects(objects))
    torch.testing.assert_close(back.boxes_xyxy, objects.boxes_xyxy, atol=1e-4, rtol=0)
    assert torch.equal(back.masks, objects.masks)  # enlarged and reduced again
    assert back.size == objects.size


def test_class_maps_are_ignored_beyond_the_image() -> None:
    image, objects = scene(20, 60)
    classes = objects.masks.any(0).to(torch.uint8) * 5
    made = ScenePreprocess(PreprocessConfig(size=60, resize="pad"), SEMANTIC).scene(image, classes)
    assert torch.equal(made.target == IGNORE, made.padding)
    assert torch.equal(made.target[20:40], classes)


def test_a_target_of_another_size_is_refused() -> None:
    image, objects = scene()
    with pytest.raises(BadImage, match="has 64 × 48 pixels, and its annotations are of 63 × 48"):
        ScenePreprocess(PreprocessConfig(size=32), MASKS).scene(image, dataclasses.replace(objects, size=(48, 63)))


@pytest.mark.parametrize("flip", ["horizontal_flip", "vertical_flip"])
def test_a_flip_twice_is_nothing(flip: str) -> None:
    image, objects = scene(32, 32)
    augment = SceneAugment(SceneAugmentConfig(**{flip: 1.0}), PreprocessConfig(size=32), MASKS)
    once = augment.scene(image, objects, 1)
    twice = augment.scene(Image.fromarray(once.pixels.numpy().transpose(1, 2, 0)), once.target, 2)
    assert not torch.equal(once.target.boxes_xyxy, objects.boxes_xyxy)
    assert torch.equal(twice.target.boxes_xyxy, objects.boxes_xyxy)
    assert torch.equal(twice.target.masks, objects.masks)
    assert torch.equal(twice.pixels, torch.from_numpy(np.array(image)).permute(2, 0, 1))


SQUARE = SceneAugment(SceneAugmentConfig(quarter_turns=1.0), PreprocessConfig(size=32), MASKS)


def test_quarter_turns_move_pixels_boxes_and_masks_exactly() -> None:
    image, objects = scene(32, 32)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    found = set()
    for key in range(12):
        made = SQUARE.scene(image, objects, key)
        (turns,) = [k for k in range(4) if torch.equal(made.pixels, pixels.rot90(k, (1, 2)))]
        found.add(turns)
        assert torch.equal(made.target.masks, objects.masks.rot90(turns, (1, 2)))
        assert torch.equal(made.target.boxes_xyxy, box_ops.of_masks(made.target.masks))
        classes = (objects.masks * torch.tensor([2, 3, 4])[:, None, None]).sum(0).to(torch.uint8)
        semantic = SceneAugment(SQUARE.config, SQUARE.input, SEMANTIC).scene(image, classes, key)
        assert torch.equal(semantic.target, classes.rot90(turns, (0, 1)))
        segments = Segments(
            classes.int().clamp(0, 4), torch.zeros(4, dtype=torch.int64), torch.zeros(4, dtype=torch.bool)
        )
        turned = SceneAugment(SQUARE.config, SQUARE.input, targets.load("panoptic")).scene(image, segments, key)
        assert torch.equal(turned.target.numbers > 0, segments.numbers.rot90(turns, (0, 1)) > 0)
    assert found == {1, 2, 3}


def test_boxes_alone_turn_as_their_masks_do() -> None:
    image, objects = scene(32, 32)
    boxes = SceneAugment(SQUARE.config, SQUARE.input, targets.load("boxes"))
    for key in range(6):
        made = boxes.scene(image, dataclasses.replace(objects, masks=None), key)
        assert torch.equal(made.target.boxes_xyxy, SQUARE.scene(image, objects, key).target.boxes_xyxy)


def test_what_is_not_square_is_turned_upside_down() -> None:
    image, objects = scene(32, 48)
    made = SceneAugment(SQUARE.config, PreprocessConfig(size=(32, 48)), MASKS).scene(image, objects, 0)
    assert torch.equal(made.pixels, torch.from_numpy(np.array(image)).permute(2, 0, 1).flip(1, 2))
    assert torch.equal(made.target.masks, objects.masks.flip(1, 2))
    assert torch.equal(made.target.boxes_xyxy, box_ops.of_masks(made.target.masks))


@pytest.mark.parametrize("resize", ["square", "pad"])
def test_padding_turns_along(resize: str) -> None:
    config = SceneAugmentConfig(scale=(0.5, 1.0), quarter_turns=1.0)
    augment = SceneAugment(config, PreprocessConfig(size=40, resize=resize), MASKS)
    for key in range(8):
        image, objects = scene(30, 40)
        made = augment.scene(image, objects, key)
        assert not (made.padding & made.target.masks.any(0)).any()
        assert (made.pixels[:, made.padding] == 128).all()


@pytest.mark.parametrize("preset", sorted(set(SCENE_PRESETS) - {"none"}))
@pytest.mark.parametrize("resize", ["square", "pad"])
def test_every_preset_moves_boxes_and_masks_as_it_moves_the_pixels(preset: str, resize: str) -> None:
    augment = SceneAugment(SCENE_PRESETS[preset], PreprocessConfig(size=(64, 48), resize=resize), MASKS)
    kept = 0
    for key in range(30):
        image, objects = scene(60, 72)
        made = augment.scene(image, objects, key)
        target = made.target
        kept += len(target)
        assert made.pixels.shape == (3, 64, 48)
        assert len(target.labels) == len(target.boxes_xyxy) == len(target.masks) == len(target.crowd)
        assert set(target.labels.tolist()) <= set(objects.labels.tolist())
        if not len(target):
            continue
        assert (box_ops.of_masks(target.masks) - target.boxes_xyxy).abs().max() <= 1
        bright = made.pixels[0].float() > 160
        assert (bright != target.masks.any(0)).float().mean() < 0.06
        assert not (made.padding & target.masks.any(0)).any()
        assert (target.boxes_xyxy[:, 2:] > target.boxes_xyxy[:, :2]).all()
    assert 30 < kept <= 90


@pytest.mark.parametrize("resize", ["square", "pad"])
@pytest.mark.parametrize("interpolation", ["bilinear", "bicubic", "box"])
def test_at_a_factor_of_one_training_sees_what_inference_sees(resize: str, interpolation: str) -> None:
    preprocess = PreprocessConfig(size=(64, 48), resize=resize, interpolation=interpolation)
    image, objects = scene(60, 90)
    augmented = SceneAugment(SceneAugmentConfig(scale=(1.0, 1.0)), preprocess, MASKS).scene(image, objects, 5)
    plain = ScenePreprocess(preprocess, MASKS).scene(image, objects)
    padding = torch.zeros(64, 48, dtype=torch.bool) if plain.padding is None else plain.padding
    assert torch.equal(augmented.pixels[:, ~augmented.padding], plain.pixels[:, ~padding])
    assert torch.equal(augmented.target.masks[:, ~augmented.padding], plain.target.masks[:, ~padding])
    sizes = (each.target.boxes_xyxy[:, 2:] - each.target.boxes_xyxy[:, :2] for each in (augmented, plain))
    torch.testing.assert_close(*sizes, atol=1e-4, rtol=0)


@pytest.mark.parametrize("factor", [0.4, 0.7, 1.3, 2.0])
def test_each_pixel_of_a_map_takes_the_value_at_its_centre(factor: float) -> None:
    """Not that at its corner, which is shifted by half a pixel of the larger grid."""
    classes = torch.randint(0, 9, (40, 40), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    augment = SceneAugment(SceneAugmentConfig(scale=(factor, factor)), PreprocessConfig(size=64), SEMANTIC)
    made = augment.scene(Image.new("RGB", (40, 40)), classes, 3)
    side = int(64 * factor)
    expected = F.interpolate(classes[None, None].float(), (side, side), mode="nearest-exact")[0, 0].to(torch.uint8)
    if factor < 1:
        assert torch.equal(made.target[~made.padding].view(side, side), expected)
    else:
        parts = expected.unfold(0, 64, 1).unfold(1, 64, 1)
        assert (parts == made.target).all(-1).all(-1).any()


def test_strips_that_cover_the_input_stay_small() -> None:
    target = torch.zeros(3, 9000, dtype=torch.uint8)
    augment = SceneAugment(SceneAugmentConfig(scale=(1.0, 2.0)), PreprocessConfig(size=64, resize="crop"), SEMANTIC)
    assert augment.scene(Image.new("RGB", (9000, 3)), target, 3).pixels.shape == (3, 64, 64)


def test_objects_out_of_view_are_left_out() -> None:
    image, objects = scene(60, 72)
    augment = SceneAugment(SceneAugmentConfig(scale=(3.0, 3.0)), PreprocessConfig(size=32), MASKS)
    numbers = [len(augment.scene(image, objects, key).target) for key in range(20)]
    assert min(numbers) < 3


def test_how_often_an_image_is_scaled_is_a_setting() -> None:
    image, objects = scene(40, 40)
    pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    for often in (0.0, 0.3, 1.0):
        config = SceneAugmentConfig(scale=(0.5, 0.8), scale_probability=often)
        made = [SceneAugment(config, PreprocessConfig(size=40), MASKS).scene(image, objects, key) for key in range(100)]
        as_it_was = [
            torch.equal(each.pixels, pixels) and torch.equal(each.target.masks, objects.masks) for each in made
        ]
        assert sum(as_it_was) == pytest.approx(100 * (1 - often), abs=12)
        assert all(each.padding.any() != same for each, same in zip(made, as_it_was, strict=True))


def test_class_maps_are_moved_and_bordered_with_no_class() -> None:
    image, objects = scene(40, 40)
    classes = (objects.masks * torch.tensor([2, 3, 4])[:, None, None]).sum(0).to(torch.uint8)
    augment = SceneAugment(
        SceneAugmentConfig(scale=(0.5, 0.5), horizontal_flip=1.0), PreprocessConfig(size=40), SEMANTIC
    )
    made = augment.scene(image, classes, 3)
    assert torch.equal(made.target == IGNORE, made.padding)
    assert set(made.target[~made.padding].tolist()) <= {0, 2, 3, 4}
    assert int((~made.padding).sum()) == 400
    bright = made.pixels[0].float() > 160
    assert (bright != ((made.target > 0) & (made.target < 9))).float().mean() < 0.05


def test_draws_hang_on_the_key_alone() -> None:
    image, objects = scene()
    augment = SceneAugment(SCENE_PRESETS["large"], PreprocessConfig(size=32), MASKS)
    state = torch.get_rng_state()
    first, again, other = (augment.scene(image, objects, key) for key in (5, 5, 6))
    assert torch.equal(first.pixels, again.pixels)
    assert torch.equal(first.target.boxes_xyxy, again.target.boxes_xyxy)
    assert not torch.equal(first.pixels, other.pixels)
    assert torch.equal(state, torch.get_rng_state())


def test_channels_that_have_no_colour_are_told_before_training() -> None:
    with pytest.raises(UserError, match="needs 1 or 3 channels, not 5"):
        SceneAugment(SceneAugmentConfig(colour=ColourConfig(grey=1)), PreprocessConfig(channels=5), MASKS)
    planes = torch.randint(0, 256, (5, 20, 30), dtype=torch.uint8)
    objects = Objects(torch.tensor([[1.0, 2, 29, 19]]), torch.tensor([0]), torch.tensor([False]), (20, 30))
    made = SceneAugment(SCENE_PRESETS["light"], PreprocessConfig(size=24, channels=5), MASKS).scene(planes, objects, 1)
    assert made.pixels.shape == (5, 24, 24)
    assert made.target.masks is None
