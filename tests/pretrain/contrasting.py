"""What the tests of contrastive methods share. Importable by child processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from ranks import on_two_ranks, share
from torch import Tensor

from vitrail import registry
from vitrail.config import to_dict
from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, PreprocessConfig, SourceConfig, ViewConfig
from vitrail.nn.projector import Projector
from vitrail.train.distributed import Parallel, World, gather
from vitrail.train.run import Run
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=16, channels=1, patch_size=8, dim=16, depth=2, heads=2, mlp_dim=32)
OPTIONS = {"hidden_dim": 24, "output_dim": 8}


def build(name: str, **options: Any) -> Any:
    """The method's task in training mode, with weights that are larger than usual."""
    module = registry.load("pretrain", name)
    task = module.Task(module.Config(model=MODEL, **OPTIONS, **options))
    for parameter in task.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return task.train()


def batch_of(num: int = 8) -> dict[str, Tensor]:
    """Two views of each image that are alike and not the same."""
    images = torch.randn(num, 1, 16, 16)
    views = {f"view{i}": images + 0.5 * torch.randn_like(images) for i in range(2)}
    return {**views, "keys": torch.randint(2**62, (num,))}


def projected(projector: Projector, x: Tensor) -> Tensor:
    """A projector once more, in float64: linear, standardised, scaled, ReLU, …, linear, standardised."""
    kernels = [weight.double() for weight in projector.parameters() if weight.ndim == 2]
    scales = [weight.double() for weight in projector.parameters() if weight.ndim == 1]
    for i, kernel in enumerate(kernels):
        x = x.double() @ kernel.T
        x = (x - x.mean(dim=0)) / (x.var(dim=0, unbiased=False) + 1e-5).sqrt()
        if i < len(kernels) - 1:
            x = (x * scales[2 * i] + scales[2 * i + 1]).relu()
    return x


def on_a_rank(rank: int, task: Any, batch: dict[str, Tensor], strategy: Any) -> list[dict[str, Tensor]]:
    engine = Parallel(task, World(torch.device("cpu"), rank, 2), strategy)
    return after_one_step(engine, task, share(batch, rank))


def after_one_step(engine: Any, task: Any, batch: dict[str, Tensor]) -> list[dict[str, Tensor]]:
    """Losses, gradients, and parameters after the teacher moved."""
    losses = engine(batch)
    losses["loss"].backward()
    task.after_step(0, 3)
    parameters = dict(task.named_parameters())
    return [
        detached(losses),
        {name: gather(parameter.grad) for name, parameter in parameters.items() if parameter.grad is not None},
        {name: gather(parameter) for name, parameter in parameters.items()},
    ]


def detached(losses: dict[str, Tensor]) -> dict[str, Tensor]:
    return {name: value.detach() for name, value in losses.items()}


def gradients(task: Any) -> dict[str, Tensor]:
    return {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


def assert_two_ranks_equal_one(task: Any, strategy: str, *, tolerance: float) -> None:
    """Losses; gradients, by their largest difference as a share of their largest value; parameters afterwards."""
    batch = batch_of(12)
    ranks = on_two_ranks(on_a_rank, task, batch, strategy)
    losses, gradients, parameters = after_one_step(task.loss, task, batch)
    for name, value in losses.items():
        torch.testing.assert_close(sum(found[name] for found, _, _ in ranks) / 2, value, rtol=tolerance, atol=tolerance)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for _, own, moved in ranks:
        assert own.keys() == gradients.keys()
        for name, gradient in gradients.items():
            assert float((own[name] - gradient).abs().max()) < tolerance * largest, name
        for name, parameter in parameters.items():
            torch.testing.assert_close(moved[name], parameter.detach(), rtol=0, atol=1e-6)


def tiny_run(name: str, **changes: Any) -> Run:
    """A pretraining of seconds on the digits."""
    view = ViewConfig(augment=AugmentConfig(crop="window", area=(0.3, 1.0)), count=2)
    settings = {
        "task": name,
        "task_options": OPTIONS,
        "data": DataConfig(
            source=SourceConfig(spec="digits"),
            preprocess=PreprocessConfig(size=16, channels=1),
            views=(view,),
            loader=LoaderConfig(batch_size=256, workers=0),
        ),
        "model": MODEL,
        "epochs": 2,
        "precision": "fp32",
        "device": "cpu",
    }
    return Run(**settings | changes)


def newest_state(folder: Path) -> Path:
    """The folder of the last save."""
    return max(path for path in (folder / "state").iterdir() if path.name.isdigit())


def same_config(task: Any) -> Any:
    """A fresh task of the same config."""
    module = registry.load("pretrain", task.name)
    return module.Task(module.Config(**to_dict(task.config))).train()
