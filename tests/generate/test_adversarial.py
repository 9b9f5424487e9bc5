"""A generator and a discriminator that learn against each other."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from vitrail.errors import UserError
from vitrail.generate.adversarial import Config, Task, squared_slope
from vitrail.sampling import SamplerConfig
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=(8, 8), patch_size=(4, 4), dim=16, depth=2, heads=2, mlp_dim=32, class_token=False)
NAMES = ("ant", "bee", "cat")


def batch() -> Any:
    return {"images": torch.randn(6, 3, 8, 8), "targets": torch.arange(6) % 3, "keys": torch.arange(6)}


def test_each_learns_from_its_own_part_alone() -> None:
    task, given = Task(Config(model=MODEL, classes=NAMES)), batch()
    task.loss(given)["loss"].backward()
    found = {name: parameter.grad.clone() for name, parameter in task.named_parameters()}
    assert all(bool(gradient.isfinite().all()) for gradient in found.values())
    labels, noise = given["targets"], task.noise(given["keys"])

    task.zero_grad()
    drawn = task.generator(noise, labels)
    scores = task.discriminator(given["images"], labels).detach(), task.discriminator(drawn, labels)
    torch.nn.functional.softplus(scores[0] - scores[1]).mean().backward()
    for name, parameter in task.generator.named_parameters():
        torch.testing.assert_close(found[f"generator.{name}"], parameter.grad)

    task.zero_grad()
    real, fake = given["images"].requires_grad_(), drawn.detach().requires_grad_()
    of_real, of_fake = task.discriminator(real, labels), task.discriminator(fake, labels)
    penalty = (squared_slope(of_real, real) + squared_slope(of_fake, fake)).mean() / 2
    (torch.nn.functional.softplus(of_fake - of_real).mean() + penalty).backward()
    for name, parameter in task.discriminator.named_parameters():
        torch.testing.assert_close(found[f"discriminator.{name}"], parameter.grad)


def test_the_penalty_is_the_squared_gradient() -> None:
    task, image = Task(Config(model=MODEL, classes=NAMES)).double(), torch.randn(1, 3, 8, 8, dtype=torch.float64)
    task.discriminator.output.weight.data.normal_()
    labels, step = torch.tensor([1]), 1e-5
    image.requires_grad_()
    slope = squared_slope(task.discriminator(image, labels), image)
    (direction,) = torch.autograd.grad(task.discriminator(image, labels).sum(), image)
    direction = direction / direction.norm()
    with torch.no_grad():
        ends = [task.discriminator(image + sign * step * direction, labels) for sign in (1, -1)]
    assert float(slope.detach().sqrt()) == pytest.approx(float((ends[0] - ends[1]) / (2 * step)), rel=1e-5)


def test_a_picture_depends_on_its_own_key_and_its_class() -> None:
    task, keys, labels = Task(Config(model=MODEL, classes=NAMES)).eval(), torch.tensor([3, 2**50]), torch.tensor([0, 2])
    with torch.inference_mode():
        both, second = task.sample(labels, keys), task.sample(labels[1:], keys[1:])
        other = task.sample(torch.tensor([1, 1]), keys)
    torch.testing.assert_close(both[1:], second, rtol=1e-5, atol=1e-5)
    assert float((both - other).abs().max()) > 0.01
    with pytest.raises(UserError, match="one step without guidance"):
        task.sample(labels, keys, SamplerConfig(steps=5))
