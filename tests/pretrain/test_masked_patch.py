from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from vitrail.errors import UserError
from vitrail.pretrain.masked_patch import Config, Corruption, Task, corrupt
from vitrail.vit import ViTConfig

MODEL: dict[str, Any] = {"image_size": 32, "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64}


def build(options: dict[str, Any] | None = None, **model: Any) -> Task:
    task = Task(Config(model=ViTConfig(**MODEL, **model), **(options or {})))
    torch.nn.init.normal_(task.mask_token)
    return task.eval()


def batch_of(images: torch.Tensor) -> dict[str, Any]:
    return {"images": images, "keys": torch.randint(2**62, (len(images),))}


def test_half_of_the_patches_are_corrupted_80_10_10() -> None:
    task = build()
    batch = batch_of(torch.randn(3000, 3, 32, 32))
    _, masked, source = corruption = task.corruption(batch)
    chosen = corruption.chosen
    assert (chosen.sum(1) == 8).all()
    own = source == torch.arange(16)
    assert not (masked & ~own).any()
    assert not (~chosen & (masked | ~own)).any()
    shares = [part[chosen].float().mean().item() for part in (masked, ~own, ~masked & own)]
    assert shares == pytest.approx([0.8, 0.1, 0.1], abs=0.015)  # 24,000 patches: over five deviations
    assert torch.bincount(((source - torch.arange(16)) % 16)[~own])[1:].min() > 90  # any other patch, alike often
    assert chosen.float().mean(0).sub(0.5).abs().max() < 0.05


def test_corruption_hangs_on_the_key_of_the_sample_alone() -> None:
    task = build()
    batch = batch_of(torch.randn(6, 3, 32, 32))
    whole = task.corruption(batch)
    part = task.corruption({name: value[4:] for name, value in batch.items()})
    assert all(torch.equal(a[4:], b) for a, b in zip(whole, part, strict=True))


def test_the_ratio_is_an_option() -> None:
    assert (corrupt(torch.rand(5, 3 * 20), 0.15).chosen.sum(1) == 3).all()
    assert build({"mask_ratio": 0.25}).corruption(batch_of(torch.randn(2, 3, 32, 32))).chosen.sum() == 8


def test_corrupted_tokens_are_the_mask_another_patch_or_kept() -> None:
    patches, mask, noise = torch.randn(3, 16, 4), torch.randn(4), torch.rand(3, 48)
    _, masked, source = corruption = corrupt(noise, 0.5)
    chosen = corruption.chosen
    result = corruption.applied(patches, mask)
    for b in range(3):
        for n in range(16):
            expected = mask if masked[b, n] else patches[b, source[b, n]]
            assert torch.equal(result[b, n], expected)
            assert chosen[b, n] or torch.equal(expected, patches[b, n])


@pytest.mark.parametrize("channels", [1, 2, 3])
def test_targets_are_the_three_bits_of_each_channels_mean(channels: int) -> None:
    mean, std = (0.3, 0.5, 0.6)[:channels], (0.2, 0.3, 0.25)[:channels]
    task = build({"mean": mean, "std": std}, channels=channels)
    pixels = torch.rand(2, channels, 32, 32) ** torch.tensor([0.05, 3.0]).view(2, 1, 1, 1)  # bright, dark
    images = (pixels - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    target = task.target(images)
    assert target.shape == (2, 16)
    assert target.max() < task.head.out_features == 8**channels
    colours = task.colours(target)
    for b in range(2):
        for n in range(16):
            top, left = 8 * (n // 4), 8 * (n % 4)
            for c in range(channels):
                average = pixels[b, c, top : top + 8, left : left + 8].mean().item()
                assert target[b, n].item() // 8**c % 8 == min(math.floor(8 * average), 7)
                assert abs(colours[b, n, c].item() - average) <= 1 / 16 + 1e-6
    white = (torch.ones(1, channels, 32, 32) - torch.tensor(mean).view(-1, 1, 1)) / torch.tensor(std).view(-1, 1, 1)
    assert (task.target(white) == 8**channels - 1).all()


def test_the_loss_is_the_cross_entropy_of_corrupted_patches() -> None:
    task = build(positions="rope_2d", registers=2)
    torch.nn.init.normal_(task.head.weight)
    batch = batch_of(torch.randn(3, 3, 32, 32))
    images, corruption = batch["images"], task.corruption(batch)
    found = task.loss(batch)

    logits = task.head(task.patches(images, corruption))
    terms, right = [], []
    for b, n in corruption.chosen.nonzero().tolist():
        row, target = logits[b, n], int(task.target(images)[b, n])
        terms.append(row.exp().sum().log() - row[target])
        right.append(float(row.argmax() == target))
    assert found["loss"].item() == pytest.approx(sum(terms).item() / len(terms), rel=1e-5)
    assert found["accuracy"].item() == pytest.approx(sum(right) / len(right))


def test_an_untouched_image_gives_the_backbones_own_features() -> None:
    task, images = build(), torch.randn(2, 3, 32, 32)
    nowhere = torch.zeros(2, 0, dtype=torch.int64)
    nothing = Corruption(nowhere, torch.zeros(2, 16, dtype=torch.bool), torch.arange(16).expand(2, -1))
    torch.testing.assert_close(task.patches(images, nothing), task.vit(images).patches)


def test_a_masked_patch_is_not_seen() -> None:
    task, images = build(), torch.randn(2, 3, 32, 32)
    batch = batch_of(images)
    corruption = task.corruption(batch)
    hidden = torch.ones(2, 16, dtype=torch.bool)
    for b, n in (~corruption.masked).nonzero().tolist():
        hidden[b, corruption.source[b, n]] = False  # whoever shows it
    hidden = hidden.unflatten(1, (4, 4)).repeat_interleave(8, 1).repeat_interleave(8, 2).unsqueeze(1)
    assert hidden.any()
    changed = torch.where(hidden, torch.randn_like(images), images)
    torch.testing.assert_close(task.patches(changed, corruption), task.patches(images, corruption))
    other = torch.where(hidden, images, torch.randn_like(images))
    assert not torch.allclose(task.patches(other, corruption), task.patches(images, corruption), atol=1e-2)


def test_pictures_of_what_it_learns() -> None:
    task = build()
    batch = batch_of(torch.randn(2, 3, 32, 32).clamp(-1, 1))
    pixels, corruption = (batch["images"] + 1) / 2, task.corruption(batch)
    _, masked, source = corruption
    chosen = corruption.chosen
    seen, predicted, true = task.show(batch)
    assert not any(panel.normalised for panel in (seen, predicted, true))
    for b in range(2):
        for n in range(16):
            part = (b, slice(None), slice(8 * (n // 4), 8 * (n // 4) + 8), slice(8 * (n % 4), 8 * (n % 4) + 8))
            if not chosen[b, n]:
                assert all(torch.allclose(panel.images[part], pixels[part]) for panel in (seen, predicted, true))
                continue
            for panel in (predicted, true):  # one colour, and the right one where it is the true one
                assert torch.equal(panel.images[part], panel.images[part][:, :1, :1].expand(3, 8, 8))
            average = pixels[part].mean(dim=(1, 2))
            assert (true.images[part][:, 0, 0] - average).abs().max() <= 1 / 16 + 1e-6
            if masked[b, n]:
                assert (seen.images[part] == 0.5).all()
            elif source[b, n] == n:
                assert torch.allclose(seen.images[part], pixels[part])
            else:
                assert not torch.allclose(seen.images[part], pixels[part])


@pytest.mark.parametrize(
    ("options", "model", "said"),
    [
        ({}, {"channels": 4}, "up to 3 channels"),
        ({}, {"embed": {"kind": "patch", "stride": 4}}, "without overlap"),
        ({}, {"embed": {"kind": "conv"}}, r"embed\.kind=patch"),
        ({"mask_ratio": 1.0}, {}, "mask_ratio"),
        ({"mean": (0.5, 0.5)}, {}, "2 values for 3 channels"),
        ({"std": 0.0}, {}, "above 0"),
        ({"ratio": 0.3}, {}, "mask_ratio"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], model: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        build(options, **model)
    assert "\n" not in str(error.value)
