"""Restored pictures compared by features and by a discriminator: who learns from what, and what is released."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import digests, start_ranks, train_in_child

import vitrail
from vitrail.build import open_checkpoint
from vitrail.checkpoints import native
from vitrail.config import from_dict, to_dict
from vitrail.data import DataConfig
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.picture_losses import Compared, FeatureDistance, PictureLossConfig, compared
from vitrail.tasks import classification
from vitrail.tasks.super_resolution import Config, Task, exact_tiles, light
from vitrail.train.folder import RunFolder
from vitrail.train.loop import fit
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.vit import ViTConfig

MODEL = dataclasses.replace(light(), dim=8, heads=2, mlp_dim=16, depth=1, image_size=(8, 8))
ADVERSARIAL = {"adversarial": {"patch_size": 4, "dim": 8, "depth": 1, "heads": 2, "weight": 0.1}}
SETTINGS = PreprocessConfig(
    size=8, resize="none", mean=(0,), std=(1,), degrade=DegradeConfig(scale=2),
    tiles=exact_tiles(Config(model=MODEL), 48),
)  # fmt: skip


@pytest.fixture(scope="module")
def eye(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A classifier whose features are compared."""
    torch.manual_seed(1)
    model = ViTConfig(image_size=(12, 12), patch_size=(4, 4), dim=8, depth=2, heads=2, mlp_dim=16)
    task = classification.Task(classification.Config(model=model, classes=("a", "b")))
    path = tmp_path_factory.mktemp("eye") / "eye.safetensors"
    vitrail.Predictor(task, PreprocessConfig(size=12, mean=(0.4,), std=(0.3,)), device="cpu").save(path)
    return str(path)


def both(eye: str) -> PictureLossConfig:
    return from_dict(PictureLossConfig, {**ADVERSARIAL, "perceptual": {"model": eye, "weight": 0.5}})


def training(eye: str, **changes: Any) -> Run:
    run = Run(
        data=DataConfig(
            source={"spec": "sample_photos", "kind": "image"},
            preprocess=SETTINGS.options(),
            loader={"batch_size": 4, "workers": 0, "passes": 12},
        ),
        model=MODEL,
        task="super_resolution",
        picture_loss=both(eye),
        schedule={"name": "constant"},
        ema={"decay": 0.5},
        epochs=2,
        precision="fp32",
        device="cpu",
    )
    return dataclasses.replace(run, **changes)


def test_features_are_of_the_models_own_images(eye: str) -> None:
    predictor = vitrail.load(eye, device="cpu")
    pictures, truth = torch.randint(256, (2, 2, 3, 14, 16), dtype=torch.uint8)
    distance = FeatureDistance(predictor)
    found = distance(pictures / 255, truth / 255)
    expected = torch.zeros(2)
    for layer in (0, 1):
        maps = [
            predictor.task.vit.intermediates(predictor.preprocess.finish(each[..., :12, :]), [layer])[0].map
            for each in (pictures, truth)
        ]
        one, other = (each / each.norm(dim=1, keepdim=True) for each in maps)
        expected += (one - other).square().sum(dim=1).flatten(1).mean(dim=1)
    torch.testing.assert_close(found, expected)
    assert (distance(truth / 255, truth / 255) == 0).all()
    with pytest.raises(UserError, match=r"smaller than the patches of 4 .* enlarge model\.image_size"):
        distance(truth[..., :3] / 255, truth[..., :3] / 255)
    with pytest.raises(UserError, match="there is no layer 5"):
        FeatureDistance(predictor, [5])


def test_each_learns_from_its_own_loss(eye: str) -> None:
    torch.manual_seed(0)
    task = Task(Config(model=MODEL, scale=2))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    model = compared(task, both(eye), SETTINGS, torch.device("cpu"))
    assert isinstance(model, Compared)
    truth = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    losses = model.loss({"images": torch.rand(2, 3, 8, 8), "targets": truth})
    own = task.loss({"images": torch.rand(2, 3, 8, 8), "targets": truth})
    assert losses.keys() - own.keys() == {"perceptual", "adversarial", "discriminator"}
    judge = dict(model.comparison.named_parameters())
    for name, learns in (("perceptual", False), ("adversarial", False), ("discriminator", True)):
        theirs = torch.autograd.grad(losses[name], list(judge.values()), retain_graph=True, allow_unused=True)
        assert all((each is not None) == learns for each in theirs)
        restoring = torch.autograd.grad(losses[name], list(task.parameters()), retain_graph=True, allow_unused=True)
        assert all((each is None) == learns for each in restoring)
    assert {name for name, _ in model.named_parameters()} > {name for name, _ in task.named_parameters()}


def test_resuming_is_exact_and_the_released_file_has_no_discriminator(eye: str, tmp_path: Path) -> None:
    run = training(eye)
    fit(run, tmp_path / "straight")
    fit(dataclasses.replace(run, epochs=1), tmp_path / "resumed")
    fit(run, tmp_path / "resumed", extend=True)
    assert digests(tmp_path / "straight") == digests(tmp_path / "resumed")
    released = open_checkpoint(RunFolder(tmp_path / "straight").weights("last"))
    assert set(released.load().state_dict()) == set(Task(Config(model=MODEL, scale=2)).state_dict())
    assert to_dict(run)["picture_loss"]["adversarial"]["dim"] == 8


def test_two_processes_are_one(eye: str, context: Any, tmp_path: Path) -> None:
    rule = OptimizerConfig(name="sgd", lr=0.1)
    run = training(eye, epochs=1, timeout=60, optimizer=rule, ema=None)
    alone = context.Process(target=train_in_child, args=(run, tmp_path / "alone"))
    alone.start()
    for process in (alone, *start_ranks(context, run, tmp_path / "both")):
        process.join(120)
    assert (tmp_path / "both" / "summary.json").exists(), (tmp_path / "both.log").read_text()
    one, two = (native.load(tmp_path / name / "weights" / "last.safetensors").state for name in ("alone", "both"))
    for name, value in two.items():
        torch.testing.assert_close(value, one[name], rtol=0, atol=2e-6)
    with pytest.raises(UserError, match="choose strategy=ddp"):
        fit(dataclasses.replace(run, strategy="fsdp"), tmp_path / "sharded")


def test_only_pictures_are_compared() -> None:
    model = ViTConfig(image_size=(8, 8), patch_size=(4, 4), dim=8, depth=1, heads=2, mlp_dim=16)
    task = classification.Task(classification.Config(model=model, classes=("a", "b")))
    with pytest.raises(UserError, match="'classification' makes none"):
        compared(task, PictureLossConfig(), SETTINGS, torch.device("cpu"))
