"""Explanations of restored pictures: what a region was made of, and where turned views differ."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

import vitrail
from vitrail.errors import UserError
from vitrail.explain import explain, methods_for
from vitrail.explain.methods.lam import attribution, detail, path_to
from vitrail.nn.windows import WindowConfig
from vitrail.ops.attribution import blurred, diffusion_index, gini, summed_in_cells
from vitrail.tasks.super_resolution import Config, Task, light

WINDOW = WindowConfig(size=4, num_global=0, shifted=True)


@pytest.fixture(scope="module")
def task() -> Task:
    model = dataclasses.replace(light(), dim=8, heads=2, mlp_dim=16, depth=2, image_size=(12, 12))
    torch.manual_seed(0)
    found = Task(Config(model=model, scale=2, window=WINDOW, group=2)).eval()
    for parameter in found.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return found


def test_attribution_adds_up_to_the_detail_that_blur_takes(task: Task) -> None:
    images, region = torch.rand(1, 3, 24, 20), ((8, 14), (6, 12))
    found = attribution(task, path_to(images, ((0, 24), (0, 20)), 200, 3.0), region)
    with torch.no_grad():
        expected = detail(task, images, region) - detail(task, blurred(images, 3.0), region)
    assert float(found.sum()) == pytest.approx(float(expected), rel=0.02)


def test_lam_is_of_the_pixels_that_a_region_sees(task: Task) -> None:
    images = torch.rand(1, 3, 64, 60)
    (found,) = explain(task, images, "lam", patch=30 * 60 + 20, size=4, steps=3)
    reach = task.config.reach
    assert reach is not None
    assert found.values.shape == (64, 60)
    rows, columns = np.nonzero(found.values)
    assert abs(rows - 30).max() <= reach + 2
    assert abs(columns - 20).max() <= reach + 2
    assert "rows 28 to 31, columns 18 to 21; diffusion index" in found.title
    path = path_to(images, ((0, 64), (0, 60)), 3, 9.0)
    whole = attribution(task, path, ((28, 32), (18, 22))).abs().sum(dim=0)
    np.testing.assert_allclose(found.values, whole.numpy(), atol=1e-4 * float(whole.max()))
    assert f"index {diffusion_index(whole):.1f}" in found.title


def test_the_diffusion_index_grows_with_the_pixels_that_take_part() -> None:
    one, all_alike = torch.zeros(10, 10), torch.ones(10, 10)
    one[3, 3] = 5
    assert diffusion_index(one) == pytest.approx(1)  # one of a hundred
    assert diffusion_index(all_alike) == pytest.approx(100)
    values = torch.rand(50)
    pairs = (values[:, None] - values).abs().sum() / (2 * 50 * values.sum())  # the definition by all pairs
    assert gini(values) == pytest.approx(float(pairs), abs=1e-6)
    assert summed_in_cells(torch.ones(5, 4), 2).tolist() == [[4, 4], [4, 4], [2, 2]]


def test_blur_keeps_the_mean_and_takes_detail() -> None:
    images = torch.rand(2, 3, 9, 5)  # smaller than the kernel
    found = blurred(images, 9.0)
    torch.testing.assert_close(blurred(torch.ones_like(images), 9.0), torch.ones_like(images))
    assert found.std() < images.std() / 3
    assert torch.equal(blurred(images, 0), images)


def test_disagreement_is_the_spread_of_eight_views(task: Task) -> None:
    images = torch.rand(1, 3, 16, 12)
    (found,) = explain(task, images, "disagreement")
    with torch.no_grad():
        pictures = [
            task(images.flip(-1).rot90(k, (2, 3))).rot90(-k, (2, 3)).flip(-1) if mirrored
            else task(images.rot90(k, (2, 3))).rot90(-k, (2, 3))
            for k in range(4)
            for mirrored in (False, True)
        ]  # fmt: skip
    spread = 255 * torch.stack(pictures).std(dim=0, unbiased=False)[0].mean(dim=0)
    np.testing.assert_allclose(found.values, spread.numpy(), rtol=1e-3)
    assert f"mean {spread.mean():.2f}, most {spread.max():.1f} grey levels" in found.title


def test_only_models_that_make_pictures_have_them(task: Task) -> None:
    assert {"lam", "disagreement"} <= set(methods_for(task))
    classifier = vitrail.tasks.classification.Task(
        vitrail.tasks.classification.Config(model=light(), classes=("a", "b"), pool="mean")
    )
    assert not {"lam", "disagreement"} & set(methods_for(classifier))
    for method in ("lam", "disagreement"):
        with pytest.raises(UserError, match="makes no pictures"):
            explain(classifier, torch.rand(1, 3, 12, 12), method)
    with pytest.raises(UserError, match="there is no patch 5000"):
        explain(task, torch.rand(1, 3, 12, 12), "lam", patch=5000)
    with pytest.raises(UserError, match="too many for a map"):
        explain(task, torch.rand(1, 3, 1100, 1100), "disagreement")
