from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from vitrail.data.transforms.mix import Mix, MixConfig
from vitrail.errors import UserError


def random_batch(num: int = 8, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(num, 3, 16, 16, generator=generator), torch.randint(classes, (num,), generator=generator)


def share(mixed: torch.Tensor, own: torch.Tensor, other: torch.Tensor) -> float:
    """The least-squares weight of ``own`` in a blend of two."""
    difference = own - other
    return float(((mixed - other) * difference).sum() / (difference**2).sum())


def test_mixup_blends_images_and_targets_by_the_same_share():
    images, labels = random_batch()
    mix = Mix(MixConfig(mixup=1.0), "class", 5)
    shares = []
    for key in range(50):
        mixed, targets = mix(images.clone(), labels, key)
        shares.append(share(mixed[1], images[1], images[5]))
        torch.testing.assert_close(mixed, shares[-1] * images + (1 - shares[-1]) * images.roll(4, 0), atol=1e-4, rtol=0)
        expected = shares[-1] * torch.eye(5)[labels] + (1 - shares[-1]) * torch.eye(5)[labels.roll(4)]
        torch.testing.assert_close(targets, expected, atol=1e-4, rtol=0)
    assert min(shares) < 0.2
    assert max(shares) > 0.8


def test_cutmix_pastes_a_box_and_weighs_targets_by_its_area():
    images, labels = random_batch()
    mix = Mix(MixConfig(cutmix=1.0), "class", 5)
    for key in range(20):
        mixed, targets = mix(images.clone(), labels, key)
        pasted = (mixed != images).any(dim=(0, 1))
        assert torch.equal(mixed[:, :, pasted], images.roll(4, 0)[:, :, pasted])
        assert int(pasted.sum()) == int(pasted.any(0).sum()) * int(pasted.any(1).sum())
        own = 1 - pasted.float().mean()
        expected = own * torch.eye(5)[labels] + (1 - own) * torch.eye(5)[labels.roll(4)]
        torch.testing.assert_close(targets, expected)


def test_the_key_decides_and_the_callers_generator_stays():
    images, labels = random_batch()
    mix = Mix(MixConfig(mixup=0.8, cutmix=1.0), "class", 5)
    state = torch.get_rng_state()
    first, again, other = (mix(images.clone(), labels, key) for key in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)


def test_probability_and_share_of_cutmix():
    images, labels = random_batch()
    mix = Mix(MixConfig(mixup=1.0, cutmix=1.0, probability=0.6, cutmix_share=0.25), "class", 5)
    kinds = {"none": 0, "mixup": 0, "cutmix": 0}
    for key in range(300):
        mixed, targets = mix(images.clone(), labels, key)
        assert targets.dtype == torch.float32  # soft in every batch
        torch.testing.assert_close(targets.sum(1), torch.ones(8))
        changed = (mixed != images).float().mean()
        kinds["none" if changed == 0 else "mixup" if changed > 0.999 else "cutmix"] += 1
    assert abs(kinds["none"] / 300 - 0.4) < 0.1
    assert 0.08 < kinds["cutmix"] / 300 < 0.22


def test_label_smoothing_in_the_loss_equals_timms_smoothed_targets():
    from timm.data.mixup import mixup_target

    images, labels = random_batch(6)
    _, targets = Mix(MixConfig(mixup=1.0), "class", 5)(images, labels, 4)
    lam = share(Mix(MixConfig(mixup=1.0), "class", 5)(images, labels, 4)[0][1], images[1], images[4])
    logits = torch.randn(6, 5)
    ours = cross_entropy(logits, targets, label_smoothing=0.1)
    # timm pairs a batch with its mirror; pair ours the same way to compare the arithmetic alone
    theirs = mixup_target(torch.cat([labels, labels.roll(3).flip(0)]), 5, lam, 0.1)[:6]
    torch.testing.assert_close(ours, cross_entropy(logits, theirs), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("kind", ["multilabel", "number"])
def test_several_labels_and_numbers_are_blended(kind):
    images, _ = random_batch()
    targets = torch.rand(8, 4)
    mixed, blended = Mix(MixConfig(mixup=1.0), kind, 4)(images.clone(), targets.clone(), 9)
    own = share(mixed[1], images[1], images[5])
    torch.testing.assert_close(blended, own * targets + (1 - own) * targets.roll(4, 0), atol=1e-4, rtol=0)


def test_what_cannot_be_blended_is_refused():
    with pytest.raises(UserError, match="cutmix cannot blend numbers"):
        Mix(MixConfig(cutmix=1.0), "number", 1)
    with pytest.raises(UserError, match="needs targets"):
        Mix(MixConfig(mixup=1.0), "none", 0)
    assert not Mix(MixConfig(), "none", 0)
