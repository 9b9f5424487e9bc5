"""Swin2SR's files against transformers: read, written and read there again."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

import vitrail
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.conversion import convert
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.tasks.super_resolution import Config, Task, light

transformers = pytest.importorskip("transformers")
SIZES: dict[str, Any] = {
    "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "image_size": 16,
    "upsampler": "pixelshuffledirect",
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "light": {},
    "classical ×3": {"upsampler": "pixelshuffle", "upscale": 3},
    "real-world": {"upsampler": "nearest+conv", "upscale": 4},
    "grey, of the same size": {"upsampler": "", "upscale": 1, "num_channels": 1},
}


def theirs(**changes: Any) -> Any:
    torch.manual_seed(0)
    model = transformers.Swin2SRForImageSuperResolution(transformers.Swin2SRConfig(**{**SIZES, **changes})).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_a_folder_gives_what_transformers_computes_and_so_does_what_we_write(name: str, tmp_path: Path) -> None:
    model = theirs(**MODELS[name])
    model.save_pretrained(tmp_path / "theirs")
    predictor = vitrail.load(tmp_path / "theirs", device="cpu")
    convert(tmp_path / "theirs", tmp_path / "again", to="huggingface")
    again = transformers.Swin2SRForImageSuperResolution.from_pretrained(tmp_path / "again").eval()
    images = torch.rand(2, MODELS[name].get("num_channels", 3), 8, 12)
    expected = model(images).reconstruction
    near: dict[str, float] = {"atol": 1e-5 * float(expected.abs().max()), "rtol": 0}
    torch.testing.assert_close(predictor.task(images), expected, **near)
    torch.testing.assert_close(again(images).reconstruction, expected, **near)
    assert isinstance(predictor.task, Task)
    size = (10 * predictor.task.config.scale, 9 * predictor.task.config.scale)
    assert predictor.predict((torch.rand(len(images[0]), 10, 9) * 255).byte()).size == size


def test_other_models_are_refused_in_a_line(tmp_path: Path) -> None:
    for number, changes in enumerate(
        (
            {"upsampler": "pixelshuffle_aux"},
            {"upsampler": "", "upscale": 1},
            {"img_range": 255.0},
            {"depths": [3, 3]},
            {"image_size": 4},
            {"resi_connection": "3conv"},
        )
    ):
        theirs(**changes).save_pretrained(tmp_path / str(number))
        with pytest.raises(UserError, match=r"this Swin2SR has .*, which Vitrail does not compute; give one") as caught:
            vitrail.load(tmp_path / str(number))
        assert "\n" not in str(caught.value)


def test_a_model_of_ours_is_no_swin2sr() -> None:
    config = Config(model=light(), scale=2)
    description = Description("super_resolution", config, PreprocessConfig())
    assert foreign.lacks("hf_swin2sr", description) is not None
    assert foreign.lacks("swinir", description) is not None
    assert foreign.lacks("swinir", dataclasses.replace(description, config=dataclasses.replace(config, group=0)))
