from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from vitrail.data import keyed_random
from vitrail.data.transforms import batched
from vitrail.data.transforms.batched import AffineConfig, ErasingConfig

KEYS = keyed_random.keys(0, "sample", 0, np.arange(400))


def random_images(num: int, height: int = 9, width: int = 12, channels: int = 2) -> torch.Tensor:
    return torch.randint(
        0, 256, (num, channels, height, width), generator=torch.Generator().manual_seed(1), dtype=torch.uint8
    )


@pytest.mark.parametrize(("axis", "dim"), [("horizontal", -1), ("vertical", -2)])
def test_flip_mirrors_a_share_of_the_images(axis, dim):
    images = random_images(400)
    flipped = batched.flip(images, KEYS, 0.3, axis=axis)
    was_flipped = (flipped == images.flip(dim)).all(dim=(1, 2, 3))
    assert torch.equal(flipped[~was_flipped], images[~was_flipped])
    assert 0.2 < was_flipped.float().mean() < 0.4


def test_flips_along_the_two_axes_are_independent():
    images = random_images(400)
    flipped = [
        (batched.flip(images, KEYS, 0.5, axis=a) != images).any(dim=(1, 2, 3)) for a in ("horizontal", "vertical")
    ]
    assert 0.15 < (flipped[0] & flipped[1]).float().mean() < 0.35


def test_shift_moves_each_image_by_its_own_offset_within_the_padding():
    images = random_images(400)
    shifted = batched.shift(images, KEYS, 2)
    padded = torch.nn.functional.pad(images, (2, 2, 2, 2))
    found = []
    for out, source in zip(shifted, padded, strict=True):
        found += [
            (t, left) for t in range(5) for left in range(5) if torch.equal(out, source[:, t : t + 9, left : left + 12])
        ]
    assert len(found) == 400
    assert set(found) == {(t, left) for t in range(5) for left in range(5)}


@pytest.mark.parametrize(
    ("config", "angle", "shift", "scale", "shear"),
    [
        (AffineConfig(degrees=30), 1, 0, 0, 0),
        (AffineConfig(translate=0.2), 0, 1, 0, 0),
        (AffineConfig(scale=(0.7, 1.4)), 0, 0, 1, 0),
        (AffineConfig(shear=20), 0, 0, 0, 1),
        (AffineConfig(degrees=15, translate=0.1, scale=(0.8, 1.2), shear=10, fill=40), 1, 1, 1, 1),
    ],
)
def test_affine_is_torchvisions(config, angle, shift, scale, shear, monkeypatch):
    """With the parameters that our draws give, each image is what torchvision makes of it alone."""
    images, keys = random_images(12, 20, 30).float(), KEYS[:12]
    parameters = keyed_random.uniform(keys, "affine", 5)
    # torchvision translates by whole pixels only
    parameters[:, 3:] = [[0.75, 0.25]] if config.translate == 0.2 else [[0.5, 0.5]]
    monkeypatch.setattr(batched, "uniform", lambda *_: parameters)
    ours = batched.affine(images, keys, config)
    for image, our, p in zip(images, ours, parameters, strict=True):
        expected = v2.functional.affine(
            image,
            angle=angle * config.degrees * (2 * p[0] - 1),
            translate=[round(config.translate * (2 * p[3] - 1) * 30), round(config.translate * (2 * p[4] - 1) * 20)],
            scale=config.scale[0] + (config.scale[1] - config.scale[0]) * p[2],
            shear=[shear * config.shear * (2 * p[1] - 1), 0.0],
            interpolation=v2.InterpolationMode.BILINEAR,
        )
        if config.fill:
            inside = v2.functional.affine(
                torch.ones_like(image),
                angle=config.degrees * (2 * p[0] - 1),
                translate=[0, 0],
                scale=config.scale[0] + (config.scale[1] - config.scale[0]) * p[2],
                shear=[config.shear * (2 * p[1] - 1), 0.0],
                interpolation=v2.InterpolationMode.BILINEAR,
            )
            expected = expected + (1 - inside) * config.fill
        torch.testing.assert_close(our, expected, atol=2e-2, rtol=0)
    assert (ours != images).any(dim=(1, 2, 3)).all()


def test_affine_without_ranges_changes_nothing():
    images = random_images(5, 28, 28).float()
    torch.testing.assert_close(batched.affine(images, KEYS[:5], AffineConfig()), images, atol=1e-3, rtol=0)


@given(st.floats(0.02, 0.2), st.floats(0.2, 0.5), st.floats(0.3, 1.0))
@settings(max_examples=20)
def test_erasing_keeps_to_its_ranges(low, high, aspect):
    height, width = 40, 60
    config = ErasingConfig(probability=1.0, area=(low, high), aspect=(aspect, 1 / aspect), fill="mean")
    images = torch.ones(40, 1, height, width)
    erased = batched.erase(images, KEYS[:40], config)[:, 0] == 0
    num = 0
    for mask in erased:
        if not mask.any():
            continue
        num += 1
        h, w = int(mask.any(1).sum()), int(mask.any(0).sum())
        assert mask.sum() == h * w  # one rectangle
        slack = (h + 0.5) * (w + 0.5) / (h * w)
        assert low / slack <= h * w / (height * width) <= high * slack
        assert aspect / slack <= h / w <= slack / aspect
    assert num > 20


def test_erasing_fills_a_share_of_the_images_with_noise_anywhere():
    images = batched.erase(torch.full((400, 3, 16, 16), 7.0), KEYS, ErasingConfig(probability=0.4))
    erased = images[:, 0] != 7.0
    assert 0.3 < erased.any(dim=(1, 2)).float().mean() < 0.5
    noise = images[images != 7.0]
    assert abs(noise.mean()) < 0.05
    assert abs(noise.std() - 1) < 0.05
    assert erased.any(dim=0).any(dim=0).all()  # up to both ends of each axis
    assert erased.any(dim=0).any(dim=1).all()


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, k: batched.flip(x, k, 0.5, axis="horizontal"),
        lambda x, k: batched.shift(x, k, 3),
        lambda x, k: batched.affine(x.float(), k, AffineConfig(degrees=20, translate=0.2, scale=(0.8, 1.2), shear=9)),
        lambda x, k: batched.erase(x.float(), k, ErasingConfig(probability=0.7)),
    ],
    ids=["flip", "shift", "affine", "erase"],
)
def test_an_image_does_not_depend_on_its_batch(operation):
    images = random_images(16, 28, 28)
    together = operation(images, KEYS[:16])
    alone = torch.cat([operation(images[i : i + 1], KEYS[i : i + 1]) for i in range(16)])
    assert torch.equal(together, alone)
    assert not torch.equal(operation(images, KEYS[16:32]), together)


def test_ranges_are_checked():
    assert math.isclose(ErasingConfig().aspect[1], 1 / 0.3)
    with pytest.raises(ValueError, match="degrees"):
        AffineConfig(degrees=270)
    with pytest.raises(ValueError, match=r"smaller end first, as in \(0\.1, 0\.4\)"):
        ErasingConfig(area=(0.4, 0.1))
