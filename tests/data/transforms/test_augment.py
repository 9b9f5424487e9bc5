from __future__ import annotations

import pickle

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import from_dict, to_dict
from vitrail.data import keyed_random
from vitrail.data.transforms import policies
from vitrail.data.transforms.augment import PRESETS, Augment, AugmentConfig, augmentation
from vitrail.data.transforms.batched import AffineConfig, ErasingConfig
from vitrail.data.transforms.colour import ColourConfig
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.errors import UserError

RGB = PreprocessConfig(size=(24, 32))


def smooth(height: int, width: int, mode: str = "RGB") -> Image.Image:
    """A picture with structure, so that every operation shows."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x * 255 // width, y * 255 // height, (x * y) % 256], -1).astype(np.uint8)
    return Image.fromarray(pixels).convert(mode)


def test_the_default_is_the_inference_preprocessing():
    image = smooth(50, 70)
    assert torch.equal(Augment(AugmentConfig(), RGB)(image, key=3), Preprocess(RGB)(image))


ONE_OF_EACH = {
    "resized": AugmentConfig(crop="resized"),
    "inception": AugmentConfig(crop="inception"),
    "randaugment": AugmentConfig(policy="randaugment"),
    "randaugment_tf": AugmentConfig(policy="randaugment_tf"),
    "autoaugment": AugmentConfig(policy="autoaugment"),
    "autoaugment_cifar": AugmentConfig(policy="autoaugment_cifar"),
    "trivial": AugmentConfig(policy="trivial"),
    "three": AugmentConfig(policy="three"),
    "window": AugmentConfig(crop="window"),
    "jitter": AugmentConfig(colour=ColourConfig(jitter=(0.3, 0.3, 0.3, 0.1))),
    "colour": AugmentConfig(colour=ColourConfig(grey=0.3, blur=0.3, solarise=0.3)),
    "flips": AugmentConfig(horizontal_flip=0.5, vertical_flip=0.5),
    "shift": AugmentConfig(shift=3),
    "affine": AugmentConfig(affine=AffineConfig(degrees=20, shear=10)),
    "erasing": AugmentConfig(erasing=ErasingConfig(probability=0.8)),
}


@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("name", [*ONE_OF_EACH, *PRESETS])
def test_every_draw_is_the_keys(name, mode):
    config = ONE_OF_EACH.get(name) or augmentation(name)
    channels = len(mode) if mode == "RGB" else 1
    augment = Augment(config, PreprocessConfig(size=(24, 32), channels=channels))
    image = smooth(50, 70, mode)
    before = torch.get_rng_state()
    first = [augment(image, key) for key in range(20)]
    torch.rand(5)
    again = [Augment(config, augment.input)(image, key) for key in reversed(range(20))]
    assert all(torch.equal(a, b) for a, b in zip(first, reversed(again), strict=True))
    assert all(a.shape == (channels, 24, 32) and a.dtype == torch.float32 and a.isfinite().all() for a in first)
    assert len({tuple(a.flatten().tolist()) for a in first}) > (1 if name == "none" else 3) - (name == "none")
    torch.set_rng_state(before)


@pytest.mark.parametrize("name", ONE_OF_EACH)
def test_the_generator_of_the_caller_is_not_disturbed(name):
    torch.manual_seed(0)
    state = torch.get_rng_state()
    Augment(ONE_OF_EACH[name], RGB)(smooth(50, 70), 5)
    assert torch.equal(torch.get_rng_state(), state)


def test_resized_crop_is_torchvisions():
    from torchvision.transforms import v2

    image = smooth(120, 90)
    theirs = v2.RandomResizedCrop((24, 32), scale=(0.2, 0.9), ratio=(0.5, 2.0), antialias=True)
    augment = Augment(AugmentConfig(crop="resized", area=(0.2, 0.9), aspect=(0.5, 2.0)), RGB)
    for key in range(20):
        with keyed_random.torch_seeded(key):
            expected = v2.functional.pil_to_tensor(theirs(image))
        assert torch.equal(augment.pixels(image, key), expected)


@pytest.mark.parametrize(("height", "width"), [(60, 100), (100, 60), (7, 5), (224, 224)])
def test_inception_crop_draws_the_aspect_linearly_and_the_height_uniformly(height, width):
    area, aspect = (0.05, 1.0), (0.75, 1.33)
    with keyed_random.torch_seeded(1):
        boxes = np.array([policies.inception_crop(height, width, area, aspect) for _ in range(1500)])
    top, left, h, w = boxes.T
    assert (top >= 0).all()
    assert (left >= 0).all()
    assert (top + h <= height).all()
    assert (left + w <= width).all()
    shares = h * w / (height * width)
    assert (shares >= area[0]).all()
    assert (shares <= area[1]).all()
    if min(height, width) < 50:
        return
    # the height is uniform from that of the smallest area up to the largest that fits
    assert abs(np.median(h) - (h.min() + min(height, width / 1.04)) / 2) < 0.07 * height
    ratio = w / h
    assert ratio.min() > 0.7
    assert ratio.max() < 1.4
    assert abs(ratio.mean() - 1.04) < 0.03  # the mean of the linear range; log-uniform draws have 1.016
    assert len(set(top)) > 20
    assert len(set(left)) > 20


def test_inception_crop_falls_back_to_the_whole_image():
    with keyed_random.torch_seeded(0):
        assert policies.inception_crop(10, 1000, (0.5, 1.0), (0.75, 1.33)) == (0, 0, 10, 1000)


def test_three_augment_is_one_of_grey_solarised_and_blurred():
    from PIL import ImageChops
    from torchvision.transforms import v2

    image = smooth(40, 40)
    numbers = {"num_ops": 2, "magnitude": 9, "magnitude_std": 0.5, "op_probability": 0.5}
    policy = policies.policy("three", **numbers, fill=(0, 0, 0), interpolation="bilinear")
    grey, solar = v2.Grayscale(3)(image), v2.functional.solarize(image, 128)
    kinds = []
    for key in range(60):
        with keyed_random.torch_seeded(key):
            out = policy(image)
        known = [
            name for name, it in (("grey", grey), ("solar", solar)) if not ImageChops.difference(out, it).getbbox()
        ]
        kinds += known or ["blur"]
    assert {kinds.count(kind) > 8 for kind in ("grey", "solar", "blur")} == {True}


def test_deterministic_says_whether_pixels_depend_on_the_key():
    image = smooth(50, 70)
    for name, config in ONE_OF_EACH.items():
        augment = Augment(config, RGB)
        same = all(torch.equal(augment.pixels(image, 0), augment.pixels(image, key)) for key in range(1, 12))
        assert same == augment.deterministic, name


def test_images_of_many_channels_are_cropped_and_flipped():
    tensor = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (6, 40, 50), dtype=np.uint8))
    config = AugmentConfig(crop="resized", horizontal_flip=0.5, erasing=ErasingConfig())
    out = Augment(config, PreprocessConfig(size=16, channels=6))(tensor, key=1)
    assert out.shape == (6, 16, 16)
    three = Augment(AugmentConfig(crop="resized"), PreprocessConfig(size=16))
    image = Image.fromarray(tensor[:3].permute(1, 2, 0).contiguous().numpy())
    assert torch.equal(three.pixels(tensor[:3], 4), three.pixels(image, 4))


@pytest.mark.parametrize("config", [AugmentConfig(policy="trivial"), AugmentConfig(colour=ColourConfig(blur=0.1))])
def test_colour_policies_refuse_other_channel_counts(config):
    with pytest.raises(UserError, match="1 or 3 channels, not 6"):
        Augment(config, PreprocessConfig(channels=6))


@pytest.mark.parametrize("name", [*ONE_OF_EACH, *PRESETS])
def test_augmentation_can_be_sent_to_another_process(name):
    augment = Augment(ONE_OF_EACH.get(name) or augmentation(name), RGB)
    image = smooth(50, 70)
    assert torch.equal(pickle.loads(pickle.dumps(augment))(image, 3), augment(image, 3))


@pytest.mark.parametrize("name", PRESETS)
def test_presets_travel(name):
    assert from_dict(AugmentConfig, to_dict(augmentation(name))) == augmentation(name)


def test_an_unknown_preset_is_named():
    with pytest.raises(UserError, match=r"unknown augmentation 'diet'; did you mean 'deit'\?"):
        augmentation("diet")
