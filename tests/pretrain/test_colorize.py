from __future__ import annotations

import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from vitrail.errors import UserError
from vitrail.ops.lab import gamut, lab_to_srgb, srgb_to_lab
from vitrail.pretrain.colorize import Config, Task
from vitrail.vit import ViTConfig

MODEL: dict[str, Any] = {"image_size": (16, 24), "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64}
targets = pytest.mark.parametrize("target", ["classes", "regression"])


def build(target: str, options: dict[str, Any] | None = None, **model: Any) -> Task:
    task = Task(Config(model=ViTConfig(**{**MODEL, **model}), target=target, **(options or {})))
    torch.nn.init.normal_(task.head.output.weight)
    return task.eval()


def colourful(num: int) -> torch.Tensor:
    """Normalised images with colours that vary from patch to patch and from pixel to pixel."""
    large = torch.rand(num, 3, 4, 6).repeat_interleave(4, 2).repeat_interleave(4, 3)
    return 2 * (0.8 * large + 0.2 * torch.rand(num, 3, 16, 24)) - 1


def true_ab(images: torch.Tensor) -> torch.Tensor:
    return srgb_to_lab((images + 1) / 2)[:, 1:]


def features(task: Task, images: torch.Tensor) -> torch.Tensor:
    """Of the grey image, made pixel by pixel from its lightness: the linear light of all channels is Y."""
    y = ((srgb_to_lab((images + 1) / 2)[:, :1] + 16) / 116).double()
    y = torch.where(y > 6 / 29, y**3, 3 * (6 / 29) ** 2 * (y - 4 / 29))
    grey = torch.where(y > 0.0031308, 1.055 * y ** (1 / 2.4) - 0.055, 12.92 * y).float().expand(-1, 3, -1, -1)
    return task.vit(2 * grey - 1).patches


def test_regression_against_a_loop() -> None:
    task, images = build("regression"), colourful(2)
    outputs, ab = task.head.output(features(task, images)), true_ab(images)
    errors = []
    for b in range(2):
        for n in range(6):
            top, left = 8 * (n // 3), 8 * (n % 3)
            patch = ab[b, :, top : top + 8, left : left + 8] / 110
            errors.append((outputs[b, n].view(2, 8, 8) - patch).square().mean().item())
    assert task.loss({"images": images})["loss"].item() == pytest.approx(sum(errors) / len(errors), rel=1e-4)


@pytest.mark.parametrize("rebalance", [0.0, 0.5])
def test_classes_against_a_loop(rebalance: float) -> None:
    task, images = build("classes", {"rebalance": rebalance}), colourful(2)
    shares = torch.rand(313).softmax(0)
    task.head.shares.copy_(shares)
    logits, ab, colours = task.head.output(features(task, images)), true_ab(images), gamut()
    importance = 1 / (rebalance * shares + (1 - rebalance) / 313)
    importance = importance / (importance * shares).sum()
    assert rebalance or torch.allclose(importance, torch.ones(313))
    terms, right = [], []
    for b in range(2):
        for n in range(6):
            for s in range(4):
                top, left = 8 * (n // 3) + 4 * (s // 2), 8 * (n % 3) + 4 * (s % 2)
                mean = ab[b, :, top : top + 4, left : left + 4].mean(dim=(1, 2))
                row = logits[b, n].view(4, 313)[s]
                distance = (colours - mean).square().sum(1).sqrt()
                near = distance.argsort()[:5].tolist()
                weights = [math.exp(-(distance[q].item() ** 2) / 50) for q in near]
                errors = [row.exp().sum().log() - row[q] for q in near]
                error = sum(w / sum(weights) * e for w, e in zip(weights, errors, strict=True))
                terms.append(importance[near[0]] * error)
                right.append(float(row.argmax() == near[0]))
    found = task.loss({"images": images})
    assert found["loss"].item() == pytest.approx(sum(terms).item() / len(terms), rel=1e-4)
    assert found["accuracy"].item() == pytest.approx(sum(right) / len(right))


def test_shares_of_the_colours_follow_the_training_images_alone() -> None:
    task = build("classes", {"cell": 8})
    before = task.head.shares.clone()
    assert torch.allclose(before, torch.full((313,), 1 / 313))
    images = colourful(3)
    task.loss({"images": images})
    assert torch.equal(task.head.shares, before)
    task.train().loss({"images": images})
    assert torch.equal(task.head.shares, before)  # pieces of a step are weighted alike
    task.after_step(0, 1)
    means = true_ab(images).unflatten(2, (2, 8)).unflatten(4, (3, 8)).mean(dim=(3, 5)).flatten(2).transpose(1, 2)
    counts = torch.zeros(313)
    for mean in means.flatten(0, 1):
        counts[(gamut() - mean).square().sum(1).argmin()] += 1 / 18
    torch.testing.assert_close(task.head.shares, 0.99 * before + 0.01 * counts)
    assert task.state_dict()["head.shares"] is not None
    rarest, commonest = task.head.shares.argmin(), task.head.shares.argmax()
    importance = task.head.importance()
    assert importance[rarest] > 1 > importance[commonest]


@targets
def test_colour_is_not_seen(target: str) -> None:
    task = build(target)
    lab = torch.stack((torch.rand(2, 16, 24) * 30 + 40, *torch.rand(2, 2, 16, 24) * 20 - 10), dim=1)
    other = torch.cat((lab[:, :1], torch.rand(2, 2, 16, 24) * 20 - 10), dim=1)  # all of them within sRGB
    images, changed = (2 * lab_to_srgb(each) - 1 for each in (lab, other))
    assert (images - changed).abs().mean() > 0.05
    one, two = (task.head.output(task.patches(task.lab(each))) for each in (images, changed))
    torch.testing.assert_close(one, two, atol=1e-3, rtol=0)
    lighter = 2 * lab_to_srgb(lab + torch.tensor([10.0, 0, 0]).view(-1, 1, 1)) - 1
    assert (task.head.output(task.patches(task.lab(lighter))) - one).abs().max() > 0.01


@targets
def test_pictures_of_what_it_learns(target: str) -> None:
    task = build(target, {"mean": (0.4, 0.5, 0.6), "std": (0.2, 0.25, 0.3)})
    lab = torch.stack((torch.rand(2, 16, 24) * 40 + 40, *torch.rand(2, 2, 16, 24) * 20 - 10), dim=1)
    pixels = lab_to_srgb(lab)
    images = (pixels - torch.tensor([0.4, 0.5, 0.6]).view(-1, 1, 1)) / torch.tensor([0.2, 0.25, 0.3]).view(-1, 1, 1)
    torch.nn.init.normal_(task.head.output.weight, std=1e-6)
    colour = torch.tensor([10.0, -20.0])
    which = gamut().tolist().index(colour.tolist())
    with torch.no_grad():  # whatever it sees, it says that colour
        if target == "classes":
            task.head.output.bias.view(4, 313)[:, which] += 100
        else:
            task.head.output.bias.view(2, 64).copy_((colour / 110).unsqueeze(1))
    grey, predicted, true = task.show({"images": images, "keys": torch.arange(2)})
    assert true.normalised
    assert true.images is images
    for panel, expected in ((grey, (0.0, 0.0)), (predicted, colour.tolist())):
        assert not panel.normalised
        assert panel.images.shape == images.shape
        found = srgb_to_lab(panel.images)
        torch.testing.assert_close(found[:, :1], lab[:, :1], atol=0.02, rtol=0)
        for axis in (0, 1):
            assert (found[:, 1 + axis] - expected[axis]).abs().max() < 0.1


def test_cells_stand_where_their_colours_are() -> None:
    task = build("classes")
    logits = torch.full((1, 6, 4, 313), -100.0)
    chosen = torch.randint(313, (6, 4))
    logits.scatter_(-1, chosen[None, ..., None], 100.0)
    task.head.forward = lambda _: logits  # type: ignore[method-assign]
    cells = torch.empty(1, 2, 4, 6)
    for n in range(6):
        for s in range(4):
            cells[0, :, 2 * (n // 3) + s // 2, 2 * (n % 3) + s % 2] = gamut()[chosen[n, s]]
    expected = F.interpolate(cells, (16, 24), mode="bilinear")
    torch.testing.assert_close(task.head.ab(torch.empty(0), (2, 3)), expected)


@targets
def test_it_learns(target: str) -> None:
    torch.manual_seed(0)
    task = build(target, {"rebalance": 0.0}).train()
    torch.nn.init.zeros_(task.head.output.weight)
    images = colourful(2)
    optimizer = torch.optim.Adam(task.parameters(), 3e-3)
    losses = []
    for _ in range(25):
        loss = task.loss({"images": images})["loss"]
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.7 * losses[0]


@pytest.mark.parametrize(
    ("options", "model", "said"),
    [
        ({}, {"channels": 1}, "colour needs images of 3 channels, not 1"),
        ({"cell": 3}, {}, "cell 3 does not divide"),
        ({"rebalance": 1.0}, {}, "rebalance"),
        ({"target": "lab"}, {}, "target"),
        ({}, {"embed": {"kind": "patch", "stride": 4}}, "stride"),
        ({"mean": (0.5, 0.5)}, {}, "2 values for 3 channels"),
    ],
)
def test_bad_settings_are_refused(options: dict[str, Any], model: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said) as error:
        Config(model=ViTConfig(**{**MODEL, **model}), **options)
    assert "\n" not in str(error.value)
