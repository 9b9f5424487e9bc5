"""Distillation as timm does it, on timm's own distilled DeiT, read by our dialect: the same losses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from test_losses import CLASSES, batch, cnn

import vitrail
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.distill import DistillConfig, Teacher
from vitrail.distill.distilled import Distilled
from vitrail.tasks.classification import Config, Task

timm_task = pytest.importorskip("timm.task", reason="this timm has no distillation")
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def theirs(distilled: bool) -> Any:
    from timm.models.deit import VisionTransformerDistilled
    from timm.models.vision_transformer import VisionTransformer

    kind = VisionTransformerDistilled if distilled else VisionTransformer
    model = kind(img_size=16, patch_size=4, embed_dim=32, depth=2, num_heads=1, num_classes=len(CLASSES))
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, 0.02, 0.3)
    model.pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}
    return model


def ours(model: Any, tmp_path: Path) -> Task:
    """The same student; its classes get names."""
    save_file(model.state_dict(), tmp_path / "student.safetensors")
    found: Any = vitrail.load(tmp_path / "student.safetensors", device="cpu").task
    settings = {name: getattr(found.config, name) for name in ("model", "pool", "head")}
    task = Task(Config(classes=CLASSES, **settings))
    task.load_state_dict(found.state_dict())
    return task


@pytest.mark.parametrize(
    ("distilled", "kind", "temperature", "weight"),
    [(True, "soft", 2.5, 0.3), (False, "soft", 2.5, 0.3), (True, "hard", 1.0, 0.5)],
)
def test_the_losses_of_timm(distilled: bool, kind: str, temperature: float, weight: float, tmp_path: Path) -> None:
    model, teacher, given = theirs(distilled), cnn().eval(), batch()
    task = ours(model, tmp_path).eval()
    settings: dict[str, Any] = {"temperature": temperature, "task_loss_weight": 1 - weight, "verbose": False}
    settings |= {"distill_type": kind} if distilled else {}
    wrapper = timm_task.TokenDistillationTask if distilled else timm_task.LogitDistillationTask
    reference = wrapper(model.eval(), teacher, criterion=torch.nn.CrossEntropyLoss(), **settings)
    if distilled:
        model.training, model.distilled_training = True, True  # both answers; nothing is dropped in its parts
    expected = reference(given["images"], given["targets"])

    own = PreprocessConfig(size=16, mean=0.5, std=0.25)
    options = {"temperature": temperature} if kind == "soft" else {}
    config = DistillConfig(teacher="a model", kind=kind, weight=weight, options=options)
    trained = Distilled(task, Teacher(teacher, PreprocessConfig(size=16, **IMAGENET), CLASSES), config, own)
    losses = trained.loss(given)
    names = {"loss": "loss", "label_loss": "task_loss", "distillation_loss": "distill_loss" if distilled else "kd_loss"}
    for name, other in names.items():
        torch.testing.assert_close(losses[name], expected[other].reshape(()), rtol=1e-4, atol=1e-5)
