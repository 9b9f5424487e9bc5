"""Training images that are decoded at a fraction of their size: the same crops and targets, nearly the same pixels."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop

from vitrail.data import (
    Augment,
    AugmentConfig,
    Objects,
    Preprocess,
    PreprocessConfig,
    SceneAugment,
    SceneAugmentConfig,
    ViewConfig,
    Views,
    decode,
    targets,
)
from vitrail.data.keyed_random import torch_seeded
from vitrail.data.loading.assembly import Assembly
from vitrail.data.media.decode import decode_enough
from vitrail.data.transforms.scene import ImageScenes, SceneEvaluation
from vitrail.ops import boxes as box_ops

SIZE = (960, 1280)
INPUT = PreprocessConfig(size=(56, 64))
TURNED = 6  # EXIF: the camera was held upright


def photo(orientation: int = 1) -> bytes:
    """Structures of several sizes, whose sides are as stored ``SIZE``."""
    draw = np.random.default_rng(0)
    pixels = np.zeros((*SIZE, 3))
    for cells in (3, 9, 40):
        noise = Image.fromarray(draw.integers(0, 256, (cells, cells, 3), np.uint8))
        pixels += np.asarray(noise.resize(SIZE[::-1], Image.Resampling.BICUBIC)) / 3.0
    exif = Image.Exif()
    exif[0x0112] = orientation
    data = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(data, "JPEG", quality=95, exif=exif)
    return data.getvalue()


def reduced(transform, data: bytes, key: int):
    """The image as a loader decodes it, and its size in full."""
    return decode_enough(data, 3, lambda size: transform.needed_side(size, key))


@pytest.mark.parametrize("orientation", [1, TURNED])
@pytest.mark.parametrize("crop", ["resized", "inception", "none"])
def test_the_crop_of_a_key_is_the_same_part_of_the_image(crop: str, orientation: int) -> None:
    augment = Augment(AugmentConfig(crop=crop, area=(0.05, 1.0), horizontal_flip=0.5), INPUT)
    data, factors = photo(orientation), set()
    whole = decode(data)
    for key in range(12):
        image, size = reduced(augment, data, key)
        assert size == (whole.height, whole.width)
        factors.add(whole.width // image.width)
        made, wanted = augment.pixels(image, key, size).float(), augment.pixels(whole, key).float()
        assert (made - wanted).abs().mean() < 1.5  # of 255; another crop differs by 20
        assert torch.equal(augment.pixels(image, key, size).float(), made)
    assert (factors == {4}) if crop == "none" else {2, 4} <= factors


@pytest.mark.parametrize("size", [(200, 320), (400, 640), (960, 1280), (961, 1280), (3000, 2000)])
def test_a_crop_has_twice_the_pixels_along_each_side_or_all(size: tuple[int, int]) -> None:
    augment = Augment(AugmentConfig(crop="resized"), INPUT)
    for key in range(50):
        data = io.BytesIO()
        Image.new("L", size[::-1]).save(data, "JPEG")
        image, whole = reduced(augment, data.getvalue(), key)
        factor = whole[0] / image.height
        with torch_seeded(key):
            _, _, h, w = RandomResizedCrop.get_params(
                torch.empty(1, 1, 1).expand(1, *size), [0.08, 1.0], [3 / 4, 4 / 3]
            )
        assert factor == 1 or (h / factor >= 2 * 56 and w / factor >= 2 * 64)


def test_views_share_the_image_that_suffices_for_all() -> None:
    large = ViewConfig(augment=AugmentConfig(crop="resized", area=(0.4, 1.0)), count=2)
    small = ViewConfig(augment=AugmentConfig(crop="resized", area=(0.05, 0.4)), count=3, scale=0.5, multiple=8)
    views, data = Views((large, small), INPUT), photo()
    image, size = reduced(views, data, 7)
    assert image.width == SIZE[1] // 4
    keys = np.array([7], np.uint64)
    made, wanted = (
        views.finish(pixels[None], keys) for pixels in (views.pixels(image, 7, size), views.pixels(decode(data), 7))
    )
    for name, view in made.items():
        assert (view - wanted[name]).abs().mean() < 0.015, name


@pytest.mark.parametrize("scale", [None, (0.5, 1.5)])
@pytest.mark.parametrize("resize", ["square", "crop", "pad"])
def test_targets_do_not_know_how_the_image_was_decoded(resize: str, scale) -> None:
    kind = targets.load("masks")
    masks = torch.zeros(2, *SIZE, dtype=torch.bool)
    masks[0, 100:500, 200:700], masks[1, 400:900, 800:1250] = True, True
    objects = Objects(box_ops.of_masks(masks), torch.tensor([1, 2]), torch.zeros(2, dtype=torch.bool), SIZE, 0, masks)
    config = SceneAugmentConfig(scale=scale, horizontal_flip=0.5)
    augment = SceneAugment(config, PreprocessConfig(size=(56, 64), resize=resize), kind)
    data = photo()
    for key in range(6):
        image, size = reduced(augment, data, key)
        assert image.width < SIZE[1]
        made, wanted = augment.scene(image, objects, key, size), augment.scene(decode(data), objects, key)
        assert (made.pixels.float() - wanted.pixels.float()).abs().mean() < 1.5
        assert torch.equal(made.target.boxes_xyxy, wanted.target.boxes_xyxy)
        assert torch.equal(made.target.masks, wanted.target.masks)
        assert (made.padding is None) == (wanted.padding is None)
        assert made.padding is None or torch.equal(made.padding, wanted.padding)


def test_a_loader_asks_for_what_suffices() -> None:
    data, seen = photo(), []

    class Source:
        target_kind, targets = targets.load("class"), np.zeros(1)

        def read(self, index: int) -> bytes:
            return data

    class Watched(Augment):
        def pixels(self, image, key=0, size=None):
            seen.append((image.width, size))
            return super().pixels(image, key, size)

    transform = ImageScenes(Watched(AugmentConfig(crop="resized", area=(0.9, 1.0)), INPUT))
    Assembly(source=Source(), transform=transform, seed=0, mix=None, combine=None, skip_bad=False, cached=False)._row(
        0, 3
    )
    assert seen == [(SIZE[1] // 8, SIZE)]


def test_what_is_measured_is_decoded_in_full() -> None:
    assert SceneEvaluation(INPUT, targets.load("masks")).needed_side(SIZE, 0) is None
    assert Preprocess(INPUT).needed_side(SIZE, 0) is None
