"""Compiled layers beyond those of every task and method, which their contract tests compile."""

from __future__ import annotations

import pytest
import torch
from compiled import assert_compiled_layers_run

from vitrail.tasks.classification import Config, Task
from vitrail.vit import ViTConfig

pytestmark = pytest.mark.filterwarnings("ignore")
SMALL = {"image_size": 8, "patch_size": 4, "dim": 16, "heads": 2, "mlp_dim": 32}


def batch_of(task: Task) -> dict[str, torch.Tensor]:
    return {"images": torch.randn(4, 3, 8, 8), "targets": torch.tensor([0, 1, 1, 0])}


def build(**model: object) -> Task:
    task = Task(Config(model=ViTConfig(**{**SMALL, **model}), classes=("ant", "bee")))  # type: ignore[arg-type]
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task


def test_more_rates_of_stochastic_depth_than_dynamo_compiles_by_default() -> None:
    task = build(depth=12, block={"drop_path": 0.3, "dropout": 0.1, "layer_scale": 0.1}).train()
    assert_compiled_layers_run(task, batch_of(task))


def test_all_sizes_and_modes_are_compiled() -> None:
    task = build(depth=2)
    for size in (8, 12, 16, 20):
        batch = batch_of(task) | {"images": torch.randn(4, 3, size, size)}
        assert_compiled_layers_run(task.train(), batch)
    assert_compiled_layers_run(task.eval(), batch_of(task))
