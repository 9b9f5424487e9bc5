from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.config import from_dict, override, to_dict
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.errors import UserError

SIZES = [(37, 91), (64, 64), (125, 83), (1, 1), (1, 301), (65, 63), (223, 225)]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def picture(height: int, width: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    channels = {"L": (), "RGB": (3,), "RGBA": (4,)}[mode]
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, *channels), dtype=np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("mode", ["RGB", "L"])
@pytest.mark.parametrize("interpolation", ["nearest", "bilinear", "bicubic", "lanczos"])
def test_square_is_hugging_faces_image_processor(size, mode, interpolation):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    image = picture(*size, mode)
    channels = len(image.getbands())
    mean, std = MEAN[:channels], STD[:channels]
    for rescale in (1 / 255, 1 / 127.5, 1.0):
        theirs = ViTImageProcessorPil(
            size={"height": 64, "width": 48},
            resample=Image.Resampling[interpolation.upper()],
            rescale_factor=rescale,
            image_mean=list(mean),
            image_std=list(std),
        )
        expected = theirs(image, return_tensors="pt")["pixel_values"][0]
        config = PreprocessConfig(
            size=(64, 48), channels=channels, interpolation=interpolation, rescale=rescale, mean=mean, std=std
        )
        ours = Preprocess(config)(image)
        assert ours.dtype == torch.float32
        assert (ours - expected).abs().max() == 0.0


def test_defaults_are_hugging_faces_defaults():
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    image = picture(300, 200)
    expected = ViTImageProcessorPil()(image, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(Preprocess(PreprocessConfig())(image), expected)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("target", [(64, 64), (64, 48), (33, 70)])
@pytest.mark.parametrize(("resize", "crop_mode"), [("crop", "center"), ("square", "squash"), ("pad", "border")])
def test_resize_and_crop_is_timms_evaluation(size, target, resize, crop_mode):
    from timm.data import create_transform

    if resize == "pad" and 301 in size:
        size = (10, 301)  # timm cannot fit a strip of 301:1 into a square
    image = picture(*size)
    for crop_pct in (0.875, 0.9, 1.0):
        transform = create_transform(
            (3, *target), interpolation="bicubic", mean=MEAN, std=STD, crop_pct=crop_pct, crop_mode=crop_mode
        )
        config = PreprocessConfig(
            size=target, resize=resize, crop_pct=crop_pct, interpolation="bicubic", mean=MEAN, std=STD
        )
        assert torch.equal(Preprocess(config)(image), transform(image))


@pytest.mark.parametrize("resize", ["square", "crop", "pad"])
def test_a_tensor_is_prepared_channel_by_channel_like_an_image(resize):
    image = picture(37, 91)
    tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    config = PreprocessConfig(size=(32, 24), resize=resize, crop_pct=0.9, mean=MEAN, std=STD)
    expected = Preprocess(config)(image)
    assert torch.equal(Preprocess(config)(tensor.contiguous()), expected)
    six = PreprocessConfig(size=(32, 24), channels=6, resize=resize, crop_pct=0.9, mean=MEAN * 2, std=STD * 2)
    assert torch.equal(Preprocess(six)(torch.cat([tensor, tensor])), torch.cat([expected, expected]))


@pytest.mark.parametrize("resize", ["square", "crop", "pad"])
@pytest.mark.parametrize("size", [(1, 10_000), (10_000, 1)])
def test_extreme_strips_take_little_memory(resize, size, monkeypatch):
    areas = []
    real = Image.Image.resize
    monkeypatch.setattr(Image.Image, "resize", lambda im, s, *a: areas.append(s[0] * s[1]) or real(im, s, *a))
    out = Preprocess(PreprocessConfig(resize=resize, crop_pct=0.9))(picture(*size))
    assert out.shape == (3, 224, 224)
    assert max(areas) <= 250 * 250 * 17


def test_the_whole_is_its_two_halves_whatever_the_batch():
    preprocess = Preprocess(PreprocessConfig(size=16, mean=MEAN, std=STD))
    images = [picture(20, 30, seed=s) for s in range(3)]
    pixels = torch.stack([preprocess.pixels(image) for image in images])
    assert pixels.dtype == torch.uint8
    before = pixels.clone()
    assert torch.equal(preprocess.finish(pixels), torch.stack([preprocess(image) for image in images]))
    assert torch.equal(pixels, before)


def test_one_mean_serves_all_channels():
    image = picture(20, 30)
    one = Preprocess(PreprocessConfig(size=16, mean=0.4, std=0.2))(image)
    assert torch.equal(one, Preprocess(PreprocessConfig(size=16, mean=(0.4,) * 3, std=(0.2,) * 3))(image))


def test_config_travels_and_reads_one_number_as_a_square():
    config = PreprocessConfig(size=(32, 48), mean=MEAN, std=STD, resize="crop", crop_pct=0.9)
    assert from_dict(PreprocessConfig, to_dict(config)) == config
    assert override(config, {"size": 96}).size == (96, 96)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"mean": (0.1, 0.2)}, "2 values for 3 channels"),
        ({"std": (0.1, 0.0, 0.1)}, "never 0"),
        ({"crop_pct": 1.5}, "crop_pct"),
        ({"size": 0}, "size"),
        ({"interpolation": "area"}, "interpolation"),
    ],
)
def test_wrong_settings_are_named(setting, message):
    with pytest.raises(UserError, match=message):
        from_dict(PreprocessConfig, setting)


@pytest.mark.parametrize("image", [picture(8, 8, "L"), torch.zeros(5, 8, 8, dtype=torch.uint8)])
def test_the_wrong_number_of_channels_is_an_error(image):
    with pytest.raises(UserError, match=r"[15] channels for a model of 3 channels"):
        Preprocess(PreprocessConfig())(image)


@pytest.mark.parametrize("settings", [{"rescale": 1e-320}, {"mean": (1e300,)}, {"std": (float("inf"),)}])
def test_numbers_that_no_pixel_can_be_scaled_by_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(UserError, match=next(iter(settings))):
        from_dict(PreprocessConfig, settings)
