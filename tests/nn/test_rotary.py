"""Rotary positions of every kind in what uses an encoder: subsets of patches, merged tokens."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitrail.compress import apply
from vitrail.errors import UserError
from vitrail.nn.rotary import LayerRotations, MixedRotary, of_patches
from vitrail.ops.rope import rope_2d
from vitrail.pretrain import mae
from vitrail.vit import ViT, ViTConfig

SMALL: dict[str, Any] = {"image_size": (32, 24), "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48}
KINDS: dict[str, dict[str, Any]] = {
    "axial": {"positions": "rope_2d", "rotary": {"theta": 10.0}},
    "with learned ones": {"rotary": {"reference": (3, 3), "offset": 1.0}},
    "centred": {"positions": "rope_2d", "rotary": {"coordinates": "centred"}},
    "mixed": {"positions": "rope_2d", "rotary": {"mixed": True}},
}


def vit(kind: str) -> ViT:
    torch.manual_seed(0)
    return ViT(ViTConfig(**SMALL, **KINDS[kind])).eval()


def test_mixed_rotations_begin_as_axial_ones_of_some_angle() -> None:
    rotary = MixedRotary(3, 2, 8, theta=10.0)
    rotary.reset_parameters()
    size = rotary.frequencies.square().sum(0).sqrt()
    torch.testing.assert_close(size, torch.tensor([1, 10**-0.5] * 2).expand(3, 2, 4))
    cos, sin = rotary((2, 3)).at(1)
    assert cos.shape == (2, 6, 4)
    torch.testing.assert_close(cos**2 + sin**2, torch.ones(2, 6, 4))


@pytest.mark.parametrize("kind", KINDS)
def test_a_choice_of_patches_turns_as_among_all(kind: str) -> None:
    """MAE's encoder sees some patches; where these are all, in any order, the output is that of all."""
    model, images = vit(kind), torch.randn(2, 3, 32, 24)
    tokens, _, rotation = model.tokenise(images)
    kept = torch.stack([torch.randperm(12), torch.randperm(12)])
    assert isinstance(rotation, tuple | LayerRotations)
    chosen = torch.stack([each[1:][order] for each, order in zip(tokens, kept, strict=True)])
    some = model.encode(torch.cat((tokens[:, :1], chosen), dim=1), of_patches(rotation, kept))
    all_of_them = model(images).patches
    for found, order, expected in zip(some[:, 1:], kept, all_of_them, strict=True):
        torch.testing.assert_close(found, expected[order], rtol=1e-4, atol=1e-5)


def test_mae_trains_with_learned_rotations() -> None:
    task = mae.Task(mae.Config(model=ViTConfig(**SMALL, **KINDS["mixed"]), decoder_dim=32, decoder_heads=2))
    mask = mae.mask_by_noise(torch.rand(2, 12), 0.5)
    task.reconstruct(torch.randn(2, 3, 32, 24), mask).square().mean().backward()
    assert task.vit.rotary is not None
    assert task.vit.rotary.frequencies.grad is not None
    assert task.vit.rotary.frequencies.grad.abs().sum() > 0


@pytest.mark.parametrize("kind", KINDS)
def test_merging_no_token_changes_nothing(kind: str, tiny_predictor: Any) -> None:
    predictor = tiny_predictor(**KINDS[kind])
    images = torch.randn(2, 3, 16, 24)
    with torch.no_grad():
        merged = apply(predictor, "tome", r=1).task(images)
        assert merged.shape == predictor.task(images).shape
        assert merged.isfinite().all()


def test_a_bad_mixture_is_refused() -> None:
    with pytest.raises(UserError, match="set positions=rope_2d"):
        ViTConfig(**SMALL, positions="none", rotary={"theta": 3.0})
    with pytest.raises(UserError, match="mixed rotary positions count patches"):
        ViTConfig(**SMALL, positions="rope_2d", rotary={"mixed": True, "offset": 1.0})
    with pytest.raises(UserError, match="are of coordinates=index"):
        ViTConfig(**SMALL, positions="rope_2d", rotary={"coordinates": "centred", "offset": 1.0})


def test_old_rotary_configs_are_as_they_were() -> None:
    """``rope_2d`` alone has base 100 and counts patches, the column first."""
    cos, sin = rope_2d((2, 3), 8)
    config = ViTConfig(**{**SMALL, "positions": "rope_2d"})
    assert config.rotary is None
    assert config.rotation is not None
    angle = torch.tensor(
        [[0.0, 0, 0, 0], [1, 0.1, 0, 0], [2, 0.2, 0, 0], [0, 0, 1, 0.1], [1, 0.1, 1, 0.1], [2, 0.2, 1, 0.1]]
    )
    torch.testing.assert_close(cos, angle.cos())
    torch.testing.assert_close(sin, angle.sin())
