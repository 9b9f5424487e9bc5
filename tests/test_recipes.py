from __future__ import annotations

from pathlib import Path

import pytest
import torch

from vitrail import registry
from vitrail.build import REGISTRIES
from vitrail.config import load, save
from vitrail.tasks.classification import Task
from vitrail.train.run import Run

recipes = pytest.mark.parametrize("name", registry.names("recipes"))


@recipes
def test_a_recipe_is_a_run_that_survives_yaml_and_names_its_command(name: str, tmp_path: Path) -> None:
    module = registry.load("recipes", name)
    run = module.run()
    save(run, tmp_path / "config.yaml")
    assert load(Run, tmp_path / "config.yaml") == run
    assert f"--recipe {name}" in module.__doc__ or f"--method {name}" in module.__doc__


@recipes
def test_a_recipes_model_takes_its_images(name: str) -> None:
    run = registry.load("recipes", name).run()
    module = registry.load_from(REGISTRIES, "classification" if run.task == "auto" else run.task)
    names = [str(i) for i in range(10)]
    task = module.Task(module.Task.configure(run.model, names, torch.arange(10).numpy(), run.task_options))
    size = run.preprocess
    with torch.inference_mode():
        outputs = task(torch.randn(2, size.channels, *size.size))
    assert outputs.isfinite().all()
    assert len(run.data.views) >= bool(task.num_views)


def test_the_fashion_model_keeps_its_budget() -> None:
    run = registry.load("recipes", "fashion_mnist").run()
    task = Task(Task.configure(run.model, [str(i) for i in range(10)], torch.arange(10).numpy(), run.task_options))
    assert sum(p.numel() for p in task.parameters()) <= 1_500_000
