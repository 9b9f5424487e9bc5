"""SwinIR's files against spandrel, which computes them as the authors do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

import vitrail
from vitrail.conversion import convert
from vitrail.errors import UserError
from vitrail.tasks.super_resolution import Task

arch = pytest.importorskip("spandrel.architectures.SwinIR").SwinIR
pytestmark = pytest.mark.filterwarnings("ignore:torch.meshgrid")
LIGHT: dict[str, Any] = {
    "img_size": 16, "embed_dim": 12, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4, "mlp_ratio": 2,
    "upsampler": "pixelshuffledirect", "upscale": 2,
}  # fmt: skip
MODELS: dict[str, dict[str, Any]] = {
    "light": {},
    "light ×4": {"upscale": 4},
    "noise": {"upsampler": "", "upscale": 1},
    "grey noise": {"upsampler": "", "upscale": 1, "in_chans": 1},
    "classical ×3": {"upsampler": "pixelshuffle", "upscale": 3},
    "classical ×4": {"upsampler": "pixelshuffle", "upscale": 4},
    "real-world, large": {"upsampler": "nearest+conv", "upscale": 4, "resi_connection": "3conv"},
    "JPEG": {"upsampler": "", "upscale": 1, "in_chans": 1, "img_size": 28, "window_size": 7, "img_range": 255.0},
}


def theirs(**changes: Any) -> torch.nn.Module:
    torch.manual_seed(0)
    model = arch(**{**LIGHT, **changes}).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model


@pytest.mark.parametrize("name", MODELS)
@torch.inference_mode()
def test_a_file_gives_what_spandrel_computes(name: str, tmp_path: Path) -> None:
    model = theirs(**MODELS[name])
    save_file(model.state_dict(), tmp_path / "swinir.safetensors")
    predictor = vitrail.load(tmp_path / "swinir.safetensors", device="cpu")
    task = predictor.task
    assert isinstance(task, Task)
    side = MODELS[name].get("window_size", 4)
    for size in ((2 * side, 2 * side), (side, 3 * side)):  # whole windows: of others they mirror the edge
        images = torch.rand(2, MODELS[name].get("in_chans", 3), *size)
        expected = model(images)
        torch.testing.assert_close(task(images), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)
    picture = (torch.rand(1, 16, 20) * 255).byte().expand(images.shape[1], -1, -1)
    assert predictor.predict(picture).size == (16 * task.config.scale, 20 * task.config.scale)


def test_other_models_are_refused_in_a_line(tmp_path: Path) -> None:
    for number, changes in enumerate(({"depths": [3, 3]}, {"ape": True})):
        path = tmp_path / f"{number}.safetensors"
        save_file(theirs(**changes).state_dict(), path)
        with pytest.raises(UserError, match="which Vitrail does not compute; give one"):
            vitrail.load(path)


@pytest.mark.parametrize("name", ["light", "real-world, large", "JPEG"])
@torch.inference_mode()
def test_what_is_written_spandrel_opens(name: str, tmp_path: Path) -> None:
    from spandrel import ModelLoader

    model = theirs(**MODELS[name])
    save_file(model.state_dict(), tmp_path / "swinir.safetensors")
    convert(tmp_path / "swinir.safetensors", tmp_path / "again", to="swinir")
    again = ModelLoader().load_from_file(tmp_path / "again" / "model.safetensors").model.eval()
    side = MODELS[name].get("window_size", 4)
    images = torch.rand(1, MODELS[name].get("in_chans", 3), 2 * side, 3 * side)
    expected = model(images)
    torch.testing.assert_close(again(images), expected, atol=1e-5 * float(expected.abs().max()), rtol=0)


def test_it_becomes_a_file_of_ours(tmp_path: Path) -> None:
    save_file(theirs().state_dict(), tmp_path / "swinir.safetensors")
    convert(tmp_path / "swinir.safetensors", tmp_path / "ours", to="native")
    images = torch.rand(1, 3, 8, 8)
    first, again = (
        vitrail.load(each, device="cpu").task(images) for each in (tmp_path / "swinir.safetensors", tmp_path / "ours")
    )
    assert torch.equal(first, again)
