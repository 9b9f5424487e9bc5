"""Every method that draws by removing noise: its path, its solvers, its conditions, and what decides a picture."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from vitrail import registry
from vitrail.config import from_dict
from vitrail.denoising import Denoiser, Guided
from vitrail.generate import flow_matching
from vitrail.nn.conditions import NO_CLASS
from vitrail.ops.diffusion import PATHS, Denoised, PathKind, Prediction, logit_normal
from vitrail.ops.inverse import Grey, Known, Small
from vitrail.sampling import SamplerConfig, Start
from vitrail.vit import ViTConfig

MODEL = ViTConfig(
    image_size=(8, 8), channels=3, patch_size=(4, 4), dim=16, depth=2, heads=2, mlp_dim=32, class_token=False
)
NAMES = ("ant", "bee", "cat")
METHODS = [name for name in registry.names("generate") if issubclass(registry.load("generate", name).Task, Denoiser)]
TIMES = torch.tensor([0.1, 0.3, 0.5, 0.8, 0.94], dtype=torch.float64)


def method(name: str = "flow_matching", **options: Any) -> Any:
    """A task whose output is not zero, as that of a fresh one is."""
    module = registry.load("generate", name)
    task = module.Task(module.Config(model=MODEL, classes=NAMES, **options)).eval()
    for parameter in task.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    return task


def images(count: int = 5) -> Tensor:
    return torch.randn(count, 3, 8, 8, dtype=torch.float64)


@pytest.mark.parametrize("kind", list(PATHS))
@pytest.mark.parametrize("predicted", ["x", "e", "v"])
def test_what_is_predicted_tells_image_and_noise(kind: PathKind, predicted: Prediction) -> None:
    path, truth = PATHS[kind], Denoised(images(), images())
    values = {"x": truth.image, "e": truth.noise, "v": path.velocity(truth, TIMES)}
    noisy = path.mix(*truth, TIMES)
    found = path.separate(noisy, values[predicted], TIMES, predicted)
    inside = (path.alpha(TIMES) > 0.05) & (path.sigma(TIMES) > 0.05)  # where nothing is held off zero
    torch.testing.assert_close(found.image[inside], truth.image[inside])
    torch.testing.assert_close(found.noise[inside], truth.noise[inside])


@pytest.mark.parametrize("kind", list(PATHS))
def test_the_velocity_is_the_derivative(kind: PathKind) -> None:
    path, truth, step = PATHS[kind], Denoised(images(), images()), 1e-6
    difference = (path.mix(*truth, TIMES + step) - path.mix(*truth, TIMES - step)) / (2 * step)
    torch.testing.assert_close(path.velocity(truth, TIMES), difference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("solver", ["euler", "heun", "dpm_solver"])
@pytest.mark.parametrize("kind", ["linear", "cosine"])
def test_solvers_reach_the_exact_solution(solver: Any, kind: PathKind) -> None:
    """Of images that are normal with mean m and deviation s, the way from noise has a closed form."""
    path, mean, spread = PATHS[kind], 0.7, 0.4

    def denoise(noisy: Tensor, time: float) -> Denoised:
        at = torch.tensor([time], dtype=torch.float64)
        alpha, sigma = path.alpha(at), path.sigma(at)
        share = alpha * spread**2 / (alpha**2 * spread**2 + sigma**2)
        image = mean + share * (noisy - alpha * mean)
        noise = sigma / (alpha**2 * spread**2 + sigma**2) * (noisy - alpha * mean)
        return Denoised(image, noise)

    noise, errors = images(), {}
    for steps in (10, 40):
        config = SamplerConfig(name=solver, steps=steps)
        drawn = config.solve(denoise, noise, config.times(), path)
        errors[steps] = float((drawn - (mean + spread * noise)).abs().max())
    assert errors[40] < (0.06 if solver == "euler" else 0.01), errors
    # Heun is of second order; DPM-Solver++ takes its first and its last step as Euler does
    assert errors[40] < errors[10] / (6 if solver == "heun" else 3), errors


@pytest.mark.parametrize("name", METHODS)
def test_a_picture_depends_on_its_own_key_alone(name: str) -> None:
    task, labels = method(name), torch.tensor([0, 2, 1, NO_CLASS])
    keys, sampler = torch.tensor([5, 2**60, 9, 11]), SamplerConfig(steps=3, guidance=2.0, interval=(0.0, 1.0))
    with torch.inference_mode():
        together = task.sample(labels, keys, sampler)
        turned = task.sample(labels.flip(0), keys.flip(0), sampler).flip(0)
        alone = torch.cat([task.sample(labels[[i]], keys[[i]], sampler) for i in range(4)])
    assert together.shape == (4, 3, 8, 8)
    torch.testing.assert_close(turned, together, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(alone, together, rtol=1e-5, atol=1e-5)
    assert float((together[0] - together[1]).abs().max()) > 0.1


@pytest.mark.parametrize("name", [name for name in METHODS if name != "mean_flow"])
def test_guidance_is_a_weight_between_two_predictions(name: str) -> None:
    task, noisy, labels = method(name), images(3).float(), torch.tensor([0, 1, 2])
    found = {}
    for guidance in (0.0, 1.0, 3.0):
        sampler = SamplerConfig(guidance=guidance, interval=(0.2, 0.9))
        with torch.inference_mode():
            found[guidance] = Guided(task, labels, sampler)(noisy, 0.5).image
            outside = Guided(task, labels, sampler)(noisy, 0.1).image
            without = Guided(task, torch.full_like(labels, NO_CLASS), SamplerConfig())(noisy, 0.5).image
        torch.testing.assert_close(outside, Guided(task, labels, SamplerConfig())(noisy, 0.1).image)
    torch.testing.assert_close(found[0.0], without)
    torch.testing.assert_close(found[3.0], without + 3 * (found[1.0] - without), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", [name for name in METHODS if name != "mean_flow"])
def test_the_loss_of_the_truth_is_zero(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    task = method(name)
    batch: Any = {"images": torch.randn(6, 3, 8, 8), "targets": torch.arange(6) % 3, "keys": torch.arange(6)}
    noise = task._noise(batch["keys"], batch["images"])

    def truth(noisy: Tensor, times: Tensor, labels: Tensor | None) -> Tensor:
        values = {"x": batch["images"], "e": noise}
        return values.get(task.config.predicts, task.path.velocity(Denoised(batch["images"], noise), times))

    assert float(task.loss(batch)["loss"].detach()) > 0.1
    monkeypatch.setattr(task.dit, "forward", truth)
    assert float(task.loss(batch)["loss"]) < 1e-5


def test_times_are_logit_normal() -> None:
    times = logit_normal((torch.arange(20_000) + 0.5) / 20_000, -0.8, 0.8)
    logits = torch.logit(times.double())
    assert float(logits.mean()) == pytest.approx(-0.8, abs=1e-3)
    assert float(logits.std()) == pytest.approx(0.8, abs=1e-3)


def test_what_is_measured_stays() -> None:
    task, truth = method(), torch.rand(3, 8, 8) * 2 - 1
    mask = torch.zeros(8, 8, dtype=torch.bool)
    mask[:, :4] = True
    small = truth.unflatten(1, (4, 2)).unflatten(3, (4, 2)).mean(dim=(2, 4))
    keys, labels = torch.arange(2), torch.tensor([0, 1])
    with torch.inference_mode():
        known = task.draw(task.noise(keys), labels, measurement=Known(truth, mask))
        grey = task.draw(task.noise(keys), labels, measurement=Grey(truth.mean(dim=0, keepdim=True)))
        large = task.draw(task.noise(keys), labels, measurement=Small(small, 2))
        plain, begun = (task.draw(task.noise(keys), labels, start=start) for start in (None, Start(truth, 0.0)))
    torch.testing.assert_close(known[..., :4], truth[..., :4].expand(2, -1, -1, -1))
    assert float((known[0] - known[1])[..., 4:].abs().max()) > 0.01
    torch.testing.assert_close(grey.mean(dim=1), truth.mean(dim=0).expand(2, -1, -1))
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(large, 2), small.expand(2, -1, -1, -1))
    torch.testing.assert_close(begun, plain)
    assert SamplerConfig(steps=4).times(0.6) == pytest.approx([0.6, 0.7, 0.8, 0.9, 1.0])


def test_tokens_of_the_class_and_a_bottleneck_matter() -> None:
    block = {"norm": "rms", "mlp": "swiglu", "qk_norm": True}
    model = {"embed": {"kind": "patch", "bottleneck": 6}, "positions": "sincos_2d", "rotary": {}, "block": block}
    settings = {**{name: getattr(MODEL, name) for name in ("image_size", "channels", "patch_size", "dim", "depth")}}
    config = from_dict(
        flow_matching.Config,
        {
            "model": {**settings, "heads": 2, "mlp_dim": 32, "class_token": False, **model},
            "classes": list(NAMES),
            "condition": {"class_tokens": 4, "class_tokens_from": 1},
        },
    )
    task = flow_matching.Task(config)
    for parameter in task.parameters():
        parameter.data += 0.05 * torch.randn_like(parameter)
    noisy, times = torch.randn(2, 3, 8, 8), torch.tensor([0.2, 0.7])
    drawn = task.dit(noisy, times, torch.tensor([0, 1]))
    assert drawn.shape == noisy.shape
    task.dit.class_positions.data += 1.0
    assert float((task.dit(noisy, times, torch.tensor([0, 1])) - drawn).detach().abs().max()) > 1e-3


def test_mean_velocities_of_a_known_flow_have_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where all images are one, the way from any noise is straight, and the mean velocity is the velocity."""
    task, image = method("mean_flow"), torch.rand(3, 8, 8)
    batch: Any = {"images": image.expand(6, -1, -1, -1), "targets": torch.arange(6) % 3, "keys": torch.arange(6)}
    assert float(task.loss(batch)["error"]) > 0.1
    monkeypatch.setattr(task.dit, "forward", lambda noisy, times, labels: image.expand_as(noisy))
    assert float(task.loss(batch)["error"]) < 1e-6
    noise = task.noise(torch.arange(4))
    for steps in (1, 3):
        drawn = task.draw(noise, torch.zeros(4, dtype=torch.int64), SamplerConfig(name="euler", steps=steps))
        torch.testing.assert_close(drawn, image.expand_as(drawn), rtol=1e-4, atol=1e-4)


def test_the_identity_of_mean_velocities_holds_for_a_curved_flow(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of normal images the exact mean velocity is known; the loss then is what the velocities of single pairs of image
    and noise differ by, and its gradient vanishes: a mean velocity that is off by a little has a larger one."""
    task, spread = method("mean_flow"), 0.5
    keys = torch.arange(4000)
    batch: Any = {"images": spread * torch.randn(4000, 3, 8, 8), "targets": keys % 3, "keys": keys}

    def scale(times: Tensor) -> Tensor:
        return (times**2 * spread**2 + (1 - times) ** 2).sqrt()

    def image_of(noisy: Tensor, times: Tensor, labels: Tensor | None, off: float = 1.0) -> Tensor:
        start, far = times
        end = start + far
        ratio = (scale(end) / scale(start) - 1) / far.clamp(min=1e-3)
        at_once = (start * spread**2 - (1 - start)) / scale(start) ** 2
        velocity = torch.where(far > 1e-3, ratio, at_once)[:, None, None, None] * noisy * off
        return noisy + (1 - start).clamp_min(0.05)[:, None, None, None] * velocity

    errors = {}
    for off in (0.8, 1.0, 1.2):
        monkeypatch.setattr(task.dit, "forward", lambda z, t, y, off=off: image_of(z, t, y, off))
        errors[off] = float(task.loss(batch)["error"])
    assert errors[1.0] < min(errors[0.8], errors[1.2])
