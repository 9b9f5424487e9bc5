"""huggingface/pytorch-image-models#976, hustvl/Vim#83: RGB weights for grey images or four bands.

Siblings looked at: fewer and more channels than three, convolutional stems, mean and deviation of preprocessing, and a
norm that ties weights to the channels.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from small_vits import timm_vit

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.ops.channels import adapt_channels
from vitrail.tasks import classification
from vitrail.train.init_weights import initialise_from
from vitrail.vit import ViT, ViTConfig


@pytest.mark.parametrize("channels", [1, 2, 4, 5, 7])
def test_as_timm(channels: int) -> None:
    from timm.models import adapt_input_conv

    kernel = torch.randn(6, 3, 4, 4)
    torch.testing.assert_close(adapt_channels(kernel, channels), adapt_input_conv(channels, kernel))


@pytest.mark.parametrize(("channels", "said"), [(1, "summed over 3 channels"), (4, "repeated from 3 channels to 4")])
def test_init(channels: int, said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = timm_vit(depth=1)
    save_file(theirs.state_dict(), tmp_path / "rgb.safetensors")
    model = ViTConfig(image_size=32, channels=channels, dim=192, depth=1, heads=3, resampling="bicubic_antialias")
    task = classification.Task(classification.Config(model=model, classes=("a", "b")))
    initialise_from(task, str(tmp_path / "rgb.safetensors"))
    expected = adapt_channels(theirs.patch_embed.proj.weight, channels)
    torch.testing.assert_close(task.vit.embed.projection.weight.detach(), expected.detach())
    assert said in capsys.readouterr().err


def test_other_stems_and_what_cannot_change() -> None:
    for embed in ({"kind": "conv"}, {"kind": "resnet", "layers": (), "width": 32}):
        vit = ViT(ViTConfig(image_size=32, dim=32, depth=1, heads=2, mlp_dim=32, embed=embed))
        before = vit(torch.ones(1, 3, 32, 32) * 0.5).tokens
        vit.adapt_channels(1)
        assert vit.config.channels == 1
        assert vit(torch.ones(1, 1, 32, 32) * 0.5).tokens.shape == before.shape
    vit = ViT(ViTConfig(image_size=32, dim=32, depth=1, heads=2, mlp_dim=32, embed={"kind": "patch", "norm": True}))
    with pytest.raises(UserError, match="cannot change from 3 to 1"):
        vit.adapt_channels(1)


def test_preprocessing_takes_the_mean_of_all_channels() -> None:
    options: dict[str, Any] = {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.2, 0.5)}
    found = PreprocessConfig(**options).for_channels(1)
    assert (found.channels, found.mean) == (1, (pytest.approx(0.5),))
    assert found.std == (pytest.approx(0.3),)
