"""Resizing against published low-resolution pictures, Pillow's own bicubic, and the published numbers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.metrics.restoration import Metrics
from vitrail.ops.bicubic import enlarged, imresize, scaled
from vitrail.ops.picture_quality import IDENTICAL, luma, psnr, ssim

DATA = Path(__file__).resolve().parents[3] / "shared" / "data" / "super_resolution"
real = pytest.mark.real_data


def picture(path: Path) -> torch.Tensor:
    with Image.open(path) as image:
        return torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)


@pytest.fixture
def set5() -> dict[str, torch.Tensor]:
    if not DATA.is_dir():
        pytest.skip("the super-resolution pictures are not here")
    return {path.stem: picture(path) for path in sorted((DATA / "set5").glob("*.png"))}


@real
@pytest.mark.parametrize("scale", [2, 4])
def test_shrinking_is_that_of_the_published_low_resolution_pictures(set5: dict[str, torch.Tensor], scale: int) -> None:
    for path in sorted((DATA / "set5_lr" / f"x{scale}").glob("*.png")):
        name = next(each for each in set5 if path.stem.startswith(each))
        height, width = (side - side % scale for side in set5[name].shape[1:])
        found = imresize(set5[name][:, :height, :width], 1 / scale)
        apart = (found.int() - picture(path).int()).abs()[:, 2:-2, 2:-2]  # their edges are made otherwise
        assert apart.max() <= 2, path
        assert (apart > 1).float().mean() < 1e-4, path


@real
def test_bicubic_has_the_published_psnr_on_set5(set5: dict[str, torch.Tensor]) -> None:
    family = Metrics(("detail",), border=2)
    for truth in set5.values():
        height, width = (side - side % 2 for side in truth.shape[1:])
        truth = truth[:, :height, :width]
        again = imresize(imresize(truth, 0.5), 2)
        family.update([torch.stack((again, again))], [truth])
    assert family.compute()["psnr_y"] == pytest.approx(33.68, abs=0.03)
    assert family.compute()["bicubic_psnr_y"] == family.compute()["psnr_y"]


@pytest.mark.parametrize("factor", [2, 3, 4])
def test_enlarging_inside_is_pillows_bicubic(factor: int) -> None:
    values = np.random.default_rng(0).uniform(0, 255, (20, 24)).astype(np.float32)
    theirs = np.asarray(Image.fromarray(values).resize((24 * factor, 20 * factor), Image.Resampling.BICUBIC))
    inside = slice(2 * factor, -2 * factor)
    ours = imresize(torch.from_numpy(values), factor)
    graph = enlarged(torch.from_numpy(values)[None, None], factor)[0, 0]
    for each in (ours, graph):
        np.testing.assert_allclose(each.numpy()[inside, inside], theirs[inside, inside], atol=1e-3)


def test_enlarging_by_one_and_of_one_pixel() -> None:
    images = torch.rand(2, 3, 5, 7)
    assert torch.equal(enlarged(images, 1), images)
    assert enlarged(images[..., :1, :1], 3).shape == (2, 3, 3, 3)
    torch.testing.assert_close(imresize(images[..., :1, :1], 4), images[..., :1, :1].expand(2, 3, 4, 4))
    assert scaled((5, 7), 0.5) == tuple(imresize(images, 0.5).shape[-2:]) == (3, 4)
    assert scaled((9, 12), 1 / 3) == (3, 4)


def test_measures_are_those_of_torchmetrics() -> None:
    from torchmetrics.functional.image import (
        peak_signal_noise_ratio,
        structural_similarity_index_measure,
    )

    draw = np.random.default_rng(0)
    truth = torch.from_numpy(draw.integers(0, 256, (3, 40, 33), dtype=np.uint8))
    noisy = (truth + torch.from_numpy(draw.normal(0, 12, truth.shape))).round().clamp(0, 255).to(torch.uint8)
    theirs = peak_signal_noise_ratio(noisy.double(), truth.double(), data_range=255.0)
    assert psnr(noisy, truth) == pytest.approx(float(theirs))
    theirs = structural_similarity_index_measure(noisy[None].double(), truth[None].double(), data_range=255.0)
    assert ssim(noisy, truth) == pytest.approx(float(theirs), abs=1e-6)
    assert psnr(truth, truth) == IDENTICAL
    assert np.isnan(ssim(truth[:, :5], truth[:, :5]))


def test_luma_is_pillows_in_studio_range() -> None:
    colours = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 8, 8), dtype=np.uint8))
    red, green, blue = colours.double()
    full = 0.299 * red + 0.587 * green + 0.114 * blue  # BT.601
    torch.testing.assert_close(luma(colours), 16 + full * 219 / 255, atol=1e-2, rtol=0)


def test_grey_pictures_are_measured_as_they_are() -> None:
    draw = np.random.default_rng(0)
    grey = torch.from_numpy(draw.integers(0, 256, (1, 20, 20), dtype=np.uint8)).expand(3, -1, -1)
    other = (grey.int() + 3).clamp(max=255).to(torch.uint8)
    family = Metrics(("detail",))
    family.update([torch.stack((other, grey))], [grey])
    found = family.compute()
    assert found["psnr_y"] == pytest.approx(found["psnr"])
    assert found["bicubic_psnr_y"] == IDENTICAL
    assert family.details()["conventions"]["border"] == 0
