"""What the tests of DINO and iBOT share. Importable by child processes."""

from __future__ import annotations

from typing import Any

import torch
from ranks import on_two_ranks, share
from torch import Tensor

from vitrail import registry
from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, PreprocessConfig, SourceConfig, ViewConfig
from vitrail.train.distributed import Parallel, World
from vitrail.train.run import Run
from vitrail.vit import ViTConfig

MODEL = ViTConfig(image_size=16, channels=1, patch_size=4, dim=16, depth=2, heads=2, mlp_dim=32)
OPTIONS = {"num_prototypes": 24, "hidden_dim": 20, "bottleneck_dim": 8}


def build(name: str, model: ViTConfig = MODEL, **options: Any) -> Any:
    """The method's task with large weights; the teacher's are others, and the centre of DINO is not 0."""
    module = registry.load("pretrain", name)
    task = module.Task(module.Config(model=model, **{"freeze_prototypes": 0.0, **OPTIONS, **options}))
    for parameter in task.parameters():
        parameter.data += 0.2 * torch.randn_like(parameter)
    if hasattr(task, "centre"):
        task.centre.mean.normal_(std=0.1)
    return task.train()


def batch_of(num: int = 6, sizes: tuple[int, ...] = (8, 16, 8, 16, 12)) -> dict[str, Tensor]:
    """Views of these sizes, of which those of 16 pixels are global."""
    views = {f"view{i}": torch.randn(num, 1, size, size) for i, size in enumerate(sizes)}
    return {**views, "keys": torch.randint(2**62, (num,))}


def head_of(head: Any, x: Tensor) -> Tensor:
    """The head once more: three layers, then cosines."""
    first, second, third = (head.mlp[i] for i in (0, 2, 4))
    gelu = torch.nn.functional.gelu
    x = third(gelu(second(gelu(first(x)))))
    weight = head.prototypes.weight
    lengths = 1 if head.lengths is None else head.lengths.T
    return (x / x.norm(dim=1, keepdim=True)) @ (weight / weight.norm(dim=1, keepdim=True)).T * lengths


def steps(task: Any, batches: list[Any], first: int, num_steps: int, optimizer: Any = None) -> Any:
    """Train on; returns the optimizer."""
    trained = [p for p in task.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-2) if optimizer is None else optimizer
    for step, batch in enumerate(batches, start=first):
        optimizer.zero_grad()
        task.loss(batch)["loss"].backward()
        task.before_step(step, num_steps)
        optimizer.step()
        task.after_step(step, num_steps)
    return optimizer


def gradients(task: Any) -> dict[str, Tensor]:
    return {name: p.grad for name, p in task.named_parameters() if p.grad is not None}


def on_a_rank(rank: int, task: Any, batch: dict[str, Tensor]) -> Any:
    """Losses of this rank's share, gradients as DDP leaves them, and the state after the step."""
    engine = Parallel(task, World(torch.device("cpu"), rank, 2), "ddp")
    return _step(task, engine, share(batch, rank))


def assert_two_ranks_equal_one(task: Any, tolerance: float = 1e-5) -> None:
    batch = batch_of(8)
    ranks = on_two_ranks(on_a_rank, task, batch)
    losses, expected, state = _step(task, task.loss, batch)
    for name, value in losses.items():
        torch.testing.assert_close(sum(found[name] for found, *_ in ranks) / 2, value, rtol=tolerance, atol=tolerance)
    largest = max(float(gradient.abs().max()) for gradient in expected.values())
    for _, found, after in ranks:
        assert found.keys() == expected.keys()
        for name, gradient in expected.items():
            assert float((found[name] - gradient).abs().max()) < tolerance * largest, name
        for name, value in state.items():
            torch.testing.assert_close(after[name], value, rtol=tolerance, atol=tolerance)


def _step(task: Any, loss: Any, batch: Any) -> Any:
    losses = loss(batch)
    losses["loss"].backward()
    task.before_step(3, 10)
    task.after_step(3, 10)
    return {name: value.detach() for name, value in losses.items()}, gradients(task), task.state_dict()


def tiny_run(name: str, *local: ViewConfig, **changes: Any) -> Run:
    """A pretraining of seconds on the digits."""
    augment = AugmentConfig(crop="window", area=(0.3, 1.0))
    settings = {
        "task": name,
        "task_options": OPTIONS,
        "data": DataConfig(
            source=SourceConfig(spec="digits"),
            preprocess=PreprocessConfig(size=16, channels=1),
            views=(
                ViewConfig(augment=augment, count=2),
                *(local or [ViewConfig(augment=augment, count=2, scale=0.5, multiple=4)]),
            ),
            loader=LoaderConfig(batch_size=256, workers=0),
        ),
        "model": MODEL,
        "epochs": 2,
        "precision": "fp32",
        "device": "cpu",
    }
    return Run(**settings | changes)
