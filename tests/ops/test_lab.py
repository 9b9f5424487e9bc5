from __future__ import annotations

import numpy as np
import torch

from vitrail.ops.lab import gamut, lab_to_srgb, srgb_to_lab

# as published for sRGB under D65 (B. Lindbloom's and others' calculators), two decimals
PUBLISHED = {
    (255, 255, 255): (100, 0, 0),
    (0, 0, 0): (0, 0, 0),
    (255, 0, 0): (53.24, 80.09, 67.20),
    (0, 255, 0): (87.73, -86.18, 83.18),
    (0, 0, 255): (32.30, 79.19, -107.86),
    (255, 255, 0): (97.14, -21.55, 94.48),
    (0, 255, 255): (91.11, -48.09, -14.13),
    (255, 0, 255): (60.32, 98.23, -60.82),
    (128, 128, 128): (53.59, 0, 0),
}


def reference(rgb: np.ndarray) -> np.ndarray:
    """With CIE's κ and ε, and a matrix from the chromaticities of the primaries and ASTM's white; float64 (N, 3)."""
    primaries = np.array([[x / y, 1, (1 - x - y) / y] for x, y in ((0.64, 0.33), (0.30, 0.60), (0.15, 0.06))]).T
    white = np.array([0.95047, 1, 1.08883])
    matrix = primaries * np.linalg.solve(primaries, white)
    linear = np.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    ratio = linear @ matrix.T / white
    epsilon, kappa = 216 / 24389, 24389 / 27
    f = np.where(ratio > epsilon, np.cbrt(ratio), (kappa * ratio + 16) / 116)
    return np.stack((116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])), axis=1)


def test_colours_are_as_published() -> None:
    rgb = torch.tensor(list(PUBLISHED)) / 255
    torch.testing.assert_close(srgb_to_lab(rgb), torch.tensor(list(PUBLISHED.values())).float(), atol=0.015, rtol=0)


def test_colours_agree_with_the_primaries() -> None:
    rgb = torch.rand(2000, 3) ** 2  # dark ones too
    expected = torch.from_numpy(reference(rgb.double().numpy())).float()
    torch.testing.assert_close(srgb_to_lab(rgb), expected, atol=2e-3, rtol=0)


def test_there_and_back() -> None:
    images = torch.rand(2, 3, 17, 13) ** 3
    torch.testing.assert_close(lab_to_srgb(srgb_to_lab(images)), images, atol=1e-5, rtol=0)


def test_greys_have_no_colour_and_the_other_way_round() -> None:
    lightness = 100 * torch.rand(50, 1)
    back = lab_to_srgb(torch.cat((lightness, torch.zeros(50, 2)), dim=1))
    torch.testing.assert_close(back, back[:, :1].expand(-1, 3), atol=1e-6, rtol=0)
    assert srgb_to_lab(torch.rand(50, 1).expand(-1, 3))[:, 1:].abs().max() < 1e-4


def test_what_no_screen_shows_is_clipped() -> None:
    colour = lab_to_srgb(torch.tensor([[50.0, 150.0, -150.0], [120.0, 0.0, 0.0], [-5.0, 0.0, 0.0]]))
    assert colour.isfinite().all()
    assert colour.min() == 0
    assert colour.max() == 1


def test_reduced_precision_changes_nothing() -> None:
    images = torch.rand(2, 3, 5, 5)
    with torch.autocast("cpu", torch.bfloat16):
        lab, back = srgb_to_lab(images), lab_to_srgb(srgb_to_lab(images))
    assert torch.equal(lab, srgb_to_lab(images))
    assert torch.equal(back, lab_to_srgb(lab))


def test_313_points_lie_around_the_gamut() -> None:
    points = gamut()
    assert points.shape == (313, 2)
    assert [tuple(row) for row in points.tolist()] == sorted({tuple(row) for row in points.tolist()})
    levels = torch.linspace(0, 1, 24)
    colours = srgb_to_lab(torch.cartesian_prod(levels, levels, levels))[:, 1:]
    rounded = (colours / 10).round().unique(dim=0) * 10
    assert (rounded[:, None] == points).all(-1).any(1).all()  # the nearest point of every colour is there
    assert torch.cdist(points, colours).min(dim=1).values.max() < 16  # and none is far from all colours
