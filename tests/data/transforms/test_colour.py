from __future__ import annotations

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as theirs

from vitrail.data import keyed_random
from vitrail.data.transforms import colour
from vitrail.data.transforms.batched import window
from vitrail.data.transforms.colour import ColourConfig, recolour

KEYS = keyed_random.keys(0, "sample", 0, np.arange(300))


def images(num: int, channels: int = 3, height: int = 20, width: int = 26) -> torch.Tensor:
    return torch.rand(num, channels, height, width, generator=torch.Generator().manual_seed(2)) * 255


def close(ours: torch.Tensor, expected: torch.Tensor) -> None:
    torch.testing.assert_close(ours, expected * 255, atol=0.02, rtol=0)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("amount", [0.0, 0.4, 1.0, 1.7])
def test_each_change_is_torchvisions(channels, amount):
    x, factor = images(5, channels), torch.full((5, 1, 1, 1), amount)
    close(colour._brightness(x, factor), theirs.adjust_brightness(x / 255, amount))
    close(colour._contrast(x, factor), theirs.adjust_contrast(x / 255, amount))
    if channels == 3:
        close(colour._saturation(x, factor), theirs.adjust_saturation(x / 255, amount))
        close(colour._grey(x), theirs.rgb_to_grayscale(x / 255, num_output_channels=3))


@pytest.mark.parametrize("turn", [-0.5, -0.13, 0.0, 0.02, 0.37])
def test_hue_is_torchvisions(turn):
    x = images(6)
    x[0] = x[0, :1]  # grey has no hue
    x[1, 1] = x[1, 0]  # two equal channels
    close(colour._hue(x, torch.full((6, 1, 1, 1), turn)), theirs.adjust_hue(x / 255, turn))


def test_blur_is_torchvisions():
    x, sigmas = images(4), torch.tensor([0.1, 0.7, 1.3, 2.0])
    for our, image, sigma in zip(colour.blurred(x, sigmas, 2.0), x, sigmas.tolist(), strict=True):
        close(our, theirs.gaussian_blur(image / 255, [13, 13], [sigma, sigma]))
    assert colour.blurred(images(2, 3, 4, 3), sigmas[:2], 2.0).shape == (2, 3, 4, 3)


def test_shares_are_kept_and_the_order_of_the_jitter_varies():
    x = images(300, 3, 6, 6)
    for name in ("grey", "solarise", "blur"):
        changed = (recolour(x, KEYS, ColourConfig(**{name: 0.3})) != x).any(dim=(1, 2, 3))
        assert 0.2 < changed.float().mean() < 0.4
    some = recolour(x, KEYS, ColourConfig(jitter=(0.4, 0.4, 0.2, 0.1), jitter_probability=0.8))
    assert 0.7 < (some != x).any(dim=(1, 2, 3)).float().mean() < 0.9
    assert some.min() >= 0
    assert some.max() <= 255.01
    orders = keyed_random.uniform(KEYS, "jitter order", 4).argsort(axis=1)
    assert len({tuple(row) for row in orders.tolist()}) == 24


def test_grey_images_have_no_saturation_and_no_hue():
    x = images(8, 1)
    assert torch.equal(recolour(x, KEYS[:8], ColourConfig(jitter=(0, 0, 0.9, 0.5))), x)
    assert not torch.equal(recolour(x, KEYS[:8], ColourConfig(jitter=(0.9, 0, 0.9, 0.5))), x)


@pytest.mark.parametrize(
    "operation",
    [
        lambda x, k: recolour(x, k, ColourConfig(jitter=(0.4, 0.4, 0.2, 0.1), grey=0.3, blur=0.5, solarise=0.3)),
        lambda x, k: window(x, k, (0.1, 0.6), (0.75, 1.33), (12, 9)),
    ],
    ids=["recolour", "window"],
)
def test_an_image_does_not_depend_on_its_batch(operation):
    x = images(16)
    together = operation(x, KEYS[:16])
    alone = torch.cat([operation(x[i : i + 1], KEYS[i : i + 1]) for i in range(16)])
    torch.testing.assert_close(together, alone, atol=1e-3, rtol=0)
    assert not torch.equal(operation(x, KEYS[16:32]), together)


def test_a_window_keeps_to_its_ranges():
    """Of an image whose pixels say where they are, the window's corners can be read."""
    height, width = 40, 60
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    coordinates = torch.stack((y, x)).expand(300, -1, -1, -1)
    out = window(coordinates, KEYS, (0.2, 0.5), (0.75, 4 / 3), (10, 10))
    sides = [(out[:, axis].amax(dim=(1, 2)) - out[:, axis].amin(dim=(1, 2))) * 10 / 9 for axis in (0, 1)]
    share, ratio = sides[0] * sides[1] / (height * width), sides[1] / sides[0]
    assert 0.195 < share.min() < 0.23
    assert 0.45 < share.max() < 0.505
    assert 0.74 < ratio.min() < 0.8
    assert 1.25 < ratio.max() < 1.34
    assert (out >= 0.5).all()
    assert (out[:, 0] <= height - 0.5).all()
    assert (out[:, 1] <= width - 0.5).all()
    whole = window(coordinates[:3], KEYS[:3], (1.0, 1.0), (1.0, 1.0), (height, width))  # 60 × 60 does not fit
    assert whole.shape == (3, 2, height, width)
    square = torch.rand(3, 1, 28, 28)
    torch.testing.assert_close(window(square, KEYS[:3], (1.0, 1.0), (1.0, 1.0), (28, 28)), square)
