from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.data.transforms.processors import from_huggingface, from_timm, to_huggingface
from vitrail.errors import UserError


@pytest.fixture
def image() -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (90, 130, 3), dtype=np.uint8))


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {
            "size": {"height": 48, "width": 64},
            "resample": 3,
            "image_mean": [0.1, 0.2, 0.3],
            "image_std": [0.4, 0.5, 0.6],
        },
        {"do_rescale": False, "size": {"height": 32, "width": 32}},
        {"do_normalize": False, "resample": 1},
        {"size": {"height": 72, "width": 72}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}},
        {"size": {"shortest_edge": 72}, "do_center_crop": True, "crop_size": {"height": 64, "width": 64}},
    ],
)
def test_their_settings_give_their_numbers(settings, image):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    processor = ViTImageProcessorPil(**settings)
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(Preprocess(from_huggingface(processor.to_dict()))(image), expected.float())


@pytest.mark.parametrize(
    "config",
    [
        PreprocessConfig(),
        PreprocessConfig(size=(48, 64), interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=0.3),
        PreprocessConfig(size=64, resize="square", crop_pct=0.875),
        PreprocessConfig(size=64, resize="crop", crop_pct=64 / 72),  # both margins even: their centre is ours
    ],
)
def test_our_settings_give_our_numbers_in_their_processor(config, image):
    from transformers.models.vit.image_processing_pil_vit import ViTImageProcessorPil

    written = to_huggingface(config)
    expected = ViTImageProcessorPil.from_dict(written)(image, return_tensors="pt")["pixel_values"][0]
    assert torch.equal(Preprocess(config)(image), expected)
    assert torch.equal(Preprocess(from_huggingface(written))(image), expected)


@pytest.mark.parametrize("shortest", range(225, 300))
def test_shortest_edge_survives_the_rounding_of_crop_pct(shortest):
    data = {"size": {"shortest_edge": shortest}, "do_center_crop": True, "crop_size": 224}
    assert to_huggingface(from_huggingface(data))["size"] == {"shortest_edge": shortest}


@pytest.mark.parametrize("crop_mode", ["center", "squash", "border"])
def test_timms_pretrained_cfg(crop_mode, image):
    from timm.data import create_transform, resolve_data_config

    cfg = {"input_size": (3, 64, 48), "interpolation": "bicubic", "mean": (0.5, 0.4, 0.3), "std": (0.2, 0.3, 0.4)}
    cfg |= {"crop_pct": 0.95, "crop_mode": crop_mode}
    transform = create_transform(**resolve_data_config(pretrained_cfg=cfg))
    assert torch.equal(Preprocess(from_timm(cfg))(image), transform(image))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"do_resize": False}, "do_resize"),
        ({"size": {"longest_edge": 224}}, "longest_edge"),
        ({"size": 256, "do_center_crop": True, "crop_size": {"height": 224, "width": 128}}, "same share"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "same share"),
        ({"image_mean": [0.5, 0.5]}, "1 for|values for|one for"),
    ],
)
def test_what_cannot_be_expressed_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        from_huggingface(data)


def test_padding_has_no_counterpart():
    with pytest.raises(UserError, match="resize=pad"):
        to_huggingface(PreprocessConfig(resize="pad"))
