"""Scenes made of several: every pixel tells by its colour which object of which image it is, and targets must agree."""

from __future__ import annotations

import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vitrail.data import Combine, Objects, PreprocessConfig, SceneAugment, SceneAugmentConfig, targets
from vitrail.data.keyed_random import key as key_of
from vitrail.data.media.decode import BadImage
from vitrail.data.segments import Segments
from vitrail.data.transforms.scene import Scene
from vitrail.errors import UserError
from vitrail.ops import boxes as box_ops
from vitrail.ops.segmentation_losses import IGNORE

NUM = 8
FILL = 128  # of borders; no image has it
STUFF = 4  # the class of the ground, in class maps and panoptic segments
INPUT = PreprocessConfig(size=(48, 64), interpolation="nearest")


@dataclass
class Samples:
    """Images of up to three rectangles on a ground, in which red is the image and green the object, from 0 on."""

    kind: str
    bad: tuple[int, ...] = ()
    skip: bool = True
    reads: list[int] = field(default_factory=list)
    watch: Callable[[Image.Image], None] | None = None

    def sample(self, index: int) -> tuple[Image.Image, Any]:
        draw = np.random.default_rng(index)
        height, width = (2 * draw.integers(15, 45, 2) + 1).tolist()  # odd: no pixel's centre falls between two
        numbers = np.zeros((height, width), np.int32)
        for number in range(int(draw.integers(1, 4))):
            left, top = number * width // 3, int(draw.integers(0, height // 2))
            numbers[top : top + height // 3, left : left + width // 3 - 1] = number + 1
        pixels = np.stack([np.full_like(numbers, red_of(index)), 40 * numbers, 40 * numbers], axis=-1)
        return Image.fromarray(pixels.astype(np.uint8)), target_of(self.kind, index, torch.from_numpy(numbers))

    def scene(self, transform: SceneAugment[Any], index: int, key: int) -> Scene[Any]:
        self.reads.append(index)
        if index in self.bad:
            raise BadImage("is no image")
        image, target = self.sample(index)
        if self.watch is not None:
            self.watch(image)
        return transform.scene(image, target, key)

    def partner(self, transform: SceneAugment[Any], index: int, key: int) -> Scene[Any] | None:
        try:
            return self.scene(transform, index, key)
        except BadImage as error:
            if self.skip:
                return None
            raise error.named(f"{index}.png") from None


def red_of(index: int) -> int:
    return 20 * index + 10


def label_of(index: int, number: int) -> int:
    """The class of object ``number``, from 1 on, of an image."""
    return (index + number) % STUFF


def target_of(kind: str, index: int, numbers: Tensor) -> Any:
    present = torch.arange(1, int(numbers.max()) + 1)
    labels = torch.tensor([label_of(index, number) for number in present.tolist()])
    crowd = (present == 2) & (index % 2 == 0)
    masks = numbers == present[:, None, None]
    if kind == "semantic":
        return torch.cat((torch.tensor([STUFF]), labels))[numbers.long()].to(torch.uint8)
    if kind == "panoptic":
        things = torch.ones(len(present) + 1, dtype=torch.bool)
        things[-1] = False
        filled = torch.where(numbers == 0, len(present) + 1, numbers).int()
        labels, crowd = torch.cat((labels, torch.tensor([STUFF]))), torch.cat((crowd, torch.tensor([False])))
        return Segments(filled, labels, crowd, index, things)
    size = (numbers.shape[0], numbers.shape[1])
    return Objects(box_ops.of_masks(masks), labels, crowd, size, index, masks if kind == "masks" else None)


def combine(kind: str, epochs: int | None = None, **settings: Any) -> Combine[Any]:
    augment = SceneAugment(SceneAugmentConfig(**settings), INPUT, targets.load(kind))
    return Combine(augment, NUM, epochs)


def made(kind: str, key: int, samples: Samples | None = None, **settings: Any) -> Scene[Any]:
    # augmented samples have mixed keys, not consecutive ones
    return combine(kind, **settings).batch(0).scene(samples or Samples(kind), key % NUM, key_of(key))


def seen(pixels: Tensor) -> dict[tuple[int, int], Tensor]:
    """Where each object is, bool (H, W), by image and number; the number of the ground is 0."""
    red, green = pixels[0].int(), pixels[1].int()
    shown = torch.stack((red, green), dim=-1).flatten(0, 1).unique(dim=0).tolist()
    found = {((r - 10) // 20, g // 40): (red == r) & (green == g) for r, g in shown if (r, g) != (FILL, FILL)}
    assert all(r % 20 == 10 and g % 40 == 0 for r, g in shown if (r, g) != (FILL, FILL))
    return found


def one_by_one(objects: Objects) -> list[tuple[int, bool, Tensor, Tensor | None]]:
    masks = [None] * len(objects) if objects.masks is None else objects.masks
    return list(zip(objects.labels.tolist(), objects.crowd.tolist(), objects.boxes_xyxy, masks, strict=True))


SETTINGS: dict[str, dict[str, Any]] = {
    "plain": {},
    "scaled": {"scale": (0.5, 2.0), "horizontal_flip": 0.5, "vertical_flip": 0.3},
    "turned": {"quarter_turns": 0.8},
}


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_objects_of_a_mosaic_are_where_their_pixels_are(kind: str, settings: dict[str, Any]) -> None:
    images, total = set(), 0
    for key in range(40):
        scene = made(kind, key, mosaic=1.0, **settings)
        assert scene.target.size == (48, 64)
        assert scene.target.image_id == key % NUM
        assert torch.equal(scene.padding, (scene.pixels == FILL).all(dim=0))
        quarters = {}
        for (image, number), where in seen(scene.pixels).items():
            images.add(image)
            if number:
                quarters[image, number] = where
        total += len(scene.target)
        remaining = one_by_one(scene.target)
        for (image, number), where in quarters.items():
            # an image may be in several tiles, so its object several times
            own = [
                each
                for each in remaining
                if (each[0], each[1]) == (label_of(image, number), number == 2 and image % 2 == 0)
                and bool(where[inside(each[2])].any())
                and (each[3] is None or bool((where & each[3]).any()))
            ]
            assert own, (key, image, number)
            union = torch.zeros_like(where)
            for _, _, box, mask in own:
                if mask is not None:
                    assert not (mask & ~where).any()
                    assert (box_ops.of_masks(mask[None])[0] - box).abs().max() <= 1
                    union |= mask
                else:
                    union[inside(box)] = True
            assert not (where & ~union).any()
            if kind == "boxes" and len(own) == 1:
                assert (box_ops.of_masks(where[None])[0] - own[0][2]).abs().max() <= 1
        for _, _, box, mask in remaining:  # nothing is out of view
            thin = (box[2:] - box[:2]).min() < 1  # it may lie between the centres of pixels
            assert thin or any(bool(where[inside(box)].any()) for where in quarters.values())
            assert mask is None or bool(mask.any())
    assert images == set(range(NUM))
    assert total > 100


def inside(box: Tensor) -> tuple[slice, slice]:
    left, top, right, bottom = box.round().int().tolist()
    return slice(top, max(bottom, top + 1)), slice(left, max(right, left + 1))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_class_maps_of_a_mosaic_are_those_of_the_pixels(settings: dict[str, Any]) -> None:
    for key in range(40):
        scene = made("semantic", key, mosaic=1.0, **settings)
        expected = torch.full((48, 64), IGNORE, dtype=torch.uint8)
        for (image, number), where in seen(scene.pixels).items():
            expected[where] = label_of(image, number) if number else STUFF
        assert torch.equal(scene.target, expected)
        assert torch.equal(scene.padding, expected == IGNORE)


def assert_segments_follow(scene: Scene[Segments]) -> None:
    target, shown = scene.target, seen(scene.pixels)
    masks = target.masks()
    assert torch.equal(target.numbers == 0, scene.padding)
    assert masks.flatten(1).any(dim=1).all()
    ground = torch.zeros(48, 64, dtype=torch.bool)
    for (image, number), where in shown.items():
        if not number:
            ground |= where
            continue
        for mask, label, crowd, thing in zip(masks, target.labels, target.crowd, target.is_thing(), strict=True):
            if (mask & where).any():
                assert not (mask & ~where).any()
                assert (label, thing) == (label_of(image, number), True)
                assert crowd == (number == 2 and image % 2 == 0)
    stuff = masks[~target.is_thing()]
    assert len(stuff) <= 1  # one segment for each class of stuff
    assert torch.equal(stuff.any(dim=0), ground)


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("combined", [{"mosaic": 1.0}, {"copy_paste": 1.0}, {"mosaic": 0.5, "copy_paste": 0.5}])
def test_segments_are_those_of_the_pixels(combined: dict[str, float], settings: dict[str, Any]) -> None:
    for key in range(40):
        assert_segments_follow(made("panoptic", key, **combined, **settings))


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_pasted_objects_hide_what_is_under_them(settings: dict[str, Any]) -> None:
    pasted = hidden = 0
    for key in range(60):
        samples = Samples("masks")
        scene = made("masks", key, samples, copy_paste=1.0, **settings)
        own, other = samples.reads
        if own == other:
            continue
        objects, shown = scene.target, seen(scene.pixels)
        assert (other, 0) not in shown  # the ground of the other image stays there
        assert objects.masks.sum(dim=0).max() <= 1
        for (image, number), where in shown.items():
            if number:
                (place,) = [i for i, mask in enumerate(objects.masks) if torch.equal(mask, where)]
                assert objects.labels[place] == label_of(image, number)
                assert objects.crowd[place] == (number == 2 and image % 2 == 0)
                assert image == own or not objects.crowd[place]
                pasted += image == other
        assert len(objects) == sum(number > 0 for _, number in shown)
        assert ((box_ops.of_masks(objects.masks) - objects.boxes_xyxy).abs() <= 1).all()
        alone = made("masks", key, **settings).target
        hidden += int((alone.masks.flatten(1).sum(1)).sum() > objects.masks[: len(alone)].flatten(1).sum(1).sum())
        assert torch.equal(scene.padding, (scene.pixels == FILL).all(dim=0))
    assert pasted > 20
    assert hidden > 5


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
@pytest.mark.parametrize("kind", ["boxes", "masks"])
def test_mixup_shows_half_of_each_and_the_objects_of_both(kind: str, settings: dict[str, Any]) -> None:
    for key in range(30):
        samples = Samples(kind)
        scene = made(kind, key, samples, mixup=1.0, **settings)
        assert len(samples.reads) == 2
        combined = combine(kind, mixup=1.0, **settings).batch(0)
        parts = [made(kind, key, **settings)]
        parts += [combined._partner(Samples(kind), combined.augment, key % NUM, keys(key_of(key)), "mixup")]
        mean = sum(part.pixels.float() for part in parts) / 2
        assert (scene.pixels.float() - mean).abs().max() <= 0.5
        assert torch.equal(scene.target.boxes_xyxy, torch.cat([part.target.boxes_xyxy for part in parts]))
        assert torch.equal(scene.target.labels, torch.cat([part.target.labels for part in parts]))
        assert torch.equal(scene.target.crowd, torch.cat([part.target.crowd for part in parts]))
        if kind == "masks":
            assert torch.equal(scene.target.masks, torch.cat([part.target.masks for part in parts]))
        assert torch.equal(scene.padding, parts[0].outside() & parts[1].outside())


def keys(key: int) -> Any:
    return np.array([key], np.uint64)


def test_tiles_meet_in_the_middle_half_and_images_just_cover_them() -> None:
    cuts, whole = [], 0
    for key in range(100):
        samples, index = Samples("masks"), key % NUM
        scene = made("masks", key, samples, mosaic=1.0)
        assert len(samples.reads) == 4
        assert not scene.padding.any()
        if samples.reads.count(index) > 1:
            continue
        first = scene.pixels[0] == red_of(index)
        left, top, right, bottom = box_ops.of_masks(first[None])[0].int().tolist()
        assert first[:bottom, :right].all()  # the first tile
        assert (left, top) == (0, 0)
        cuts.append((bottom, right))
        share = max(bottom / 48, right / 64)
        _, objects = samples.sample(index)
        scale = torch.tensor([64 / objects.size[1], 48 / objects.size[0]]).repeat(2) * share
        for place, box in enumerate(objects.boxes_xyxy * scale):
            size = box[2:] - box[:2]
            for mask, shown in zip(scene.target.masks, scene.target.boxes_xyxy, strict=True):
                inner = (shown[:2] > 0.5).all() and shown[2] < right - 0.5 and shown[3] < bottom - 0.5
                if inner and (mask & first & (scene.pixels[1] == 40 * (place + 1))).any():
                    # at its aspect, but for the rounding of the other side to whole pixels
                    torch.testing.assert_close(shown[2:] - shown[:2], size, atol=0.02, rtol=0.04)
                    whole += 1
    assert whole > 20
    heights, widths = (np.array(each) for each in zip(*cuts, strict=True))
    assert (heights.min() >= 12, heights.max() <= 36, widths.min() >= 16, widths.max() <= 48) == (True,) * 4
    assert heights.max() - heights.min() > 18
    assert widths.max() - widths.min() > 26


@pytest.mark.parametrize(("setting", "reads"), [("mosaic", 3), ("mixup", 1), ("copy_paste", 1)])
def test_how_often_images_are_combined(setting: str, reads: int) -> None:
    combined = combine("masks", **{setting: 0.3}).batch(0)
    samples = Samples("masks")
    for key in range(500):
        combined.scene(samples, key % NUM, key_of(key))
    assert (len(samples.reads) - 500) / reads == pytest.approx(150, abs=40)  # four deviations
    counts = np.bincount(samples.reads, minlength=NUM)
    assert counts.min() > 0.75 * counts.mean()


def test_draws_hang_on_the_key_alone() -> None:
    settings = {"mosaic": 0.5, "copy_paste": 0.5, "mixup": 0.5, "scale": (0.5, 1.5), "horizontal_flip": 0.5}
    state = torch.get_rng_state()
    first = [made("masks", key, **settings) for key in range(12)]
    again = [made("masks", key, **settings) for key in reversed(range(12))][::-1]
    assert torch.equal(state, torch.get_rng_state())
    for one, other in zip(first, again, strict=True):
        assert torch.equal(one.pixels, other.pixels)
        assert torch.equal(one.target.masks, other.target.masks)
        assert torch.equal(one.padding, other.padding)
    assert len({scene.pixels.numpy().tobytes() for scene in first}) == 12


def test_unreadable_partners_are_replaced_or_named() -> None:
    settings = {"mosaic": 1.0, "mixup": 1.0}
    bad = tuple(range(1, NUM))
    for key in range(0, 5 * NUM, NUM):  # the sample itself is the only one that can be read
        scene = made("masks", key, Samples("masks", bad), **settings)
        assert scene.target.image_id == 0
        assert scene.pixels.shape == (3, 48, 64)
    with pytest.raises(UserError, match=r"^[1-7]\.png is no image; repair or remove it"):
        [made("masks", key, Samples("masks", bad, skip=False), **settings) for key in range(0, 5 * NUM, NUM)]
    with pytest.raises(BadImage):  # which the loader leaves out or names
        made("masks", 3, Samples("masks", bad), **settings)


def test_one_image_at_a_time_is_in_memory() -> None:
    alive: list[weakref.ref[Image.Image]] = []

    def watch(image: Image.Image) -> None:
        assert sum(each() is not None for each in alive) == 0
        alive.append(weakref.ref(image))

    for key in range(5):
        made("masks", key, Samples("masks", watch=watch), mosaic=1.0, copy_paste=1.0, mixup=1.0)
    assert len(alive) == 30


def test_closing_is_a_share_of_the_training() -> None:
    combined = combine("masks", epochs=20, mosaic=1.0, close=0.15)
    assert [epoch for epoch in range(20) if combined.is_closed(epoch)] == [17, 18, 19]
    assert not combine("masks", mosaic=1.0).is_closed(10**6)
    assert not combine("masks", epochs=20, mosaic=1.0, close=0.0).is_closed(19)
    assert combine("masks", mosaic=0.1)
    assert combine("masks", batch_scale=(0.5, 1.5), multiple=16)
    assert not combine("masks")


@pytest.mark.parametrize(
    ("kind", "setting", "message"),
    [
        ("boxes", "copy_paste", "by boxes alone; set data.scenes.copy_paste=0, or data.source.kind=masks"),
        ("semantic", "copy_paste", "with a class for each pixel; set data.scenes.copy_paste=0"),
        ("semantic", "mixup", "with a class for each pixel; set data.scenes.mixup=0"),
        ("panoptic", "mixup", "with a segment for each pixel; set data.scenes.mixup=0"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_a_line(kind: str, setting: str, message: str) -> None:
    with pytest.raises(UserError, match=message) as caught:
        combine(kind, **{setting: 0.1})
    assert "\n" not in str(caught.value)


def test_sizes_of_batches() -> None:
    config = SceneAugmentConfig(batch_scale=(0.75, 1.25), multiple=16)
    assert config.sizes((64, 64)) == [(48, 48), (64, 64), (80, 80)]
    assert config.sizes((240, 320)) == [(h, round(h / 12) * 16) for h in range(192, 301, 16)]
    assert SceneAugmentConfig().sizes((50, 30)) == [(50, 30)]
    with pytest.raises(UserError, match=r"no multiple of 32 pixels is between 12 and 20; widen it"):
        SceneAugmentConfig(batch_scale=(0.75, 1.25)).sizes((16, 16))
    combined = combine("masks", batch_scale=(0.5, 1.5), multiple=8)
    drawn = [combined.batch(key_of(step)).augment.input.size for step in range(700)]
    counts = {size: drawn.count(size) for size in set(drawn)}
    assert sorted(counts) == [(24, 32), (32, 40), (40, 56), (48, 64), (56, 72), (64, 88), (72, 96)]
    assert min(counts.values()) > 60
    scene = combined.batch(key_of(3)).scene(Samples("masks"), 2, 5)
    assert scene.pixels.shape[1:] == drawn[3] == scene.target.size
    assert scene.padding is None  # nothing is combined, so nothing changes but the size
