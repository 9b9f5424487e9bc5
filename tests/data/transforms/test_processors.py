from __future__ import annotations

import importlib
import json

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.data.transforms.processors import from_huggingface, from_timm, to_huggingface, to_timm
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
@pytest.mark.parametrize("backend", ["pil", "torchvision"])
def test_our_settings_give_our_numbers_in_their_processor(config, backend, image, tmp_path):
    import transformers

    written = to_huggingface(config)
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(written))
    processor = transformers.AutoImageProcessor.from_pretrained(tmp_path, backend=backend)
    expected = processor(image, return_tensors="pt")["pixel_values"][0]
    ours = Preprocess(config)(image)
    if backend == "pil":
        assert torch.equal(ours, expected)
    else:
        levels = (ours - expected).abs() * 255 * torch.tensor(config.std).reshape(-1, 1, 1)
        assert levels.max() < 1.01
    assert torch.equal(Preprocess(from_huggingface(written))(image), ours)


@pytest.mark.parametrize("family", ["ViT", "DeiT", "Bit", "CLIP", "Siglip", "Beit"])
@pytest.mark.parametrize("size", [None, 64])
def test_what_a_file_leaves_out_is_the_processors_default(family, size, image):
    module = importlib.import_module(f"transformers.models.{family.lower()}.image_processing_pil_{family.lower()}")
    settings = {} if size is None else {"size": size, "crop_size": size}
    processor = getattr(module, f"{family}ImageProcessorPil")(**settings)
    picture = image.resize((262, 220))  # all margins are even
    expected = processor(picture, return_tensors="pt")["pixel_values"][0]
    if family == "Siglip" and size:
        with pytest.raises(UserError, match="neither height and width"):
            from_huggingface({"image_processor_type": "SiglipImageProcessor", **settings})
        return
    for kind in ("image_processor_type", "feature_extractor_type"):
        suffix = "ImageProcessor" if kind.startswith("image") else "FeatureExtractor"
        config = from_huggingface({kind: family + suffix, **settings})
        assert torch.equal(Preprocess(config)(picture), expected)


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
    "config",
    [
        PreprocessConfig(),
        PreprocessConfig(
            size=(48, 64), resize="pad", crop_pct=0.9, interpolation="lanczos", mean=(0.1, 0.2, 0.3), std=0.3
        ),
        PreprocessConfig(size=60, resize="crop", crop_pct=0.875, interpolation="bicubic"),
    ],
)
def test_our_settings_in_timms_pretrained_cfg(config, image):
    from timm.data import create_transform, resolve_data_config

    written = to_timm(config)
    assert to_timm(from_timm(written)) == written
    transform = create_transform(**resolve_data_config(pretrained_cfg=written))
    assert torch.equal(Preprocess(config)(image), transform(image))
    assert torch.equal(Preprocess(from_timm(written))(image), transform(image))


def test_timm_always_divides_by_255():
    with pytest.raises(UserError, match="rescale=1"):
        to_timm(PreprocessConfig(rescale=1))


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"do_resize": False}, "do_resize"),
        ({"size": {"longest_edge": 224}}, "longest_edge"),
        ({"size": 256, "do_center_crop": True, "crop_size": {"height": 224, "width": 128}}, "same share"),
        ({"size": 224, "do_center_crop": True, "crop_size": 256}, "same share"),
        ({"image_mean": [0.5, 0.5]}, "1 for|values for|one for"),
        *(
            ({"size": {"height": side, "width": 16}}, "sides are pixels")
            for side in (1.5, -1, 0, None, "16", 2**63, True)
        ),
    ],
)
def test_what_cannot_be_expressed_is_refused(data, message):
    with pytest.raises(UserError, match=message):
        from_huggingface(data)


def test_padding_has_no_counterpart():
    with pytest.raises(UserError, match="resize=pad"):
        to_huggingface(PreprocessConfig(resize="pad"))
