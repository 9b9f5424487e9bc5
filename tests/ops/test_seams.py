"""The spectrum of pictures at the frequencies of the grid of patches."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrail.ops.seams import fits, grid_energy, spectrum


def pictures(num=60, height=24, width=32):
    """Noise that is smooth as pictures are."""
    noise = torch.randn(num, 2, height + 4, width + 4).double()
    return torch.nn.functional.avg_pool2d(noise, 5, stride=1) * 20


def test_the_power_is_numpys():
    drawn = pictures(3)
    columns, rows = np.fft.rfft(drawn.numpy(), axis=2), np.fft.rfft(drawn.numpy(), axis=3)
    expected = np.concatenate([(abs(columns) ** 2).sum((1, 3)), (abs(rows) ** 2).sum((1, 2))], axis=1)
    np.testing.assert_allclose(spectrum(drawn), expected, rtol=1e-9)
    np.testing.assert_allclose(spectrum(drawn[1:2]), expected[1:2], rtol=1e-9)


@pytest.mark.parametrize("patch", [2, 4, 8])
def test_steps_at_the_borders_of_patches_stand_out(patch):
    drawn = pictures()
    plain = grid_energy(spectrum(drawn), (24, 32), patch)
    assert 0.3 < plain < 2
    ramp = torch.arange(patch).double() / patch * 20  # falls back at each border
    seamed = drawn + ramp.repeat(32 // patch) + ramp.repeat(24 // patch)[:, None]
    assert grid_energy(spectrum(seamed), (24, 32), patch) > 3 * plain
    assert grid_energy(spectrum(seamed + 50), (24, 32), patch) == pytest.approx(
        grid_energy(spectrum(seamed), (24, 32), patch), rel=1e-6
    )


def test_noise_has_no_grid():
    noise = torch.randn(400, 1, 28, 28)
    assert grid_energy(spectrum(noise), (28, 28), 14) == pytest.approx(1, abs=0.1)
    assert grid_energy(spectrum(noise), (28, 28), 7) == pytest.approx(1, abs=0.1)


def test_a_picture_of_one_colour_has_no_seams():
    assert grid_energy(spectrum(torch.full((2, 1, 8, 8), 7)), (8, 8), 2) == pytest.approx(1)


def test_which_patches_are_a_grid():
    assert fits((8, 12), 4)
    assert not fits((8, 12), 8)
    assert not fits((8, 8), 8)
    assert not fits((8, 8), 1)
    assert not fits((9, 8), 2)
