"""mrdbourke/pytorch-deep-learning#1221: torchvision's ViT after ``model.heads = nn.Linear(…)`` or Dropout and Linear.

Siblings looked at: the same in timm, a layer without bias; a head beside a wrapped backbone; an MLP in its place, which
only ``--init`` can do without.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from small_vits import distance, prefixed, randomised, timm_vit
from torch import nn

from vitrail.build import open_checkpoint
from vitrail.errors import UserError

HEADS = {
    "linear": lambda dim: nn.Linear(dim, 3),
    "dropout": lambda dim: nn.Sequential(nn.Dropout(0.1), nn.Linear(dim, 3)),
    "without bias": lambda dim: nn.Sequential(nn.Linear(dim, 3, bias=False)),
}


def torchvision_vit(head: nn.Module) -> nn.Module:
    from torchvision.models import VisionTransformer

    model = VisionTransformer(32, 16, 1, 1, 64, 96, num_classes=5)
    model.heads = head
    return randomised(model)


@pytest.mark.parametrize("head", ["linear", "dropout"])
def test_torchvision(head: str, tmp_path: Path) -> None:
    model = torchvision_vit(HEADS[head](64))
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    found = open_checkpoint(tmp_path / "a.safetensors")
    assert found.dialect == "torchvision"
    assert len(found.task.names) == 3
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5
    assert any(line.startswith("head: heads") for line in found.assumed)


@pytest.mark.parametrize("head", ["linear", "dropout", "without bias"])
def test_timm(head: str, tmp_path: Path) -> None:
    model = timm_vit(depth=1)
    model.head = HEADS[head](192)
    randomised(model)
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    assert distance(open_checkpoint(tmp_path / "a.safetensors").load(), model, torch.randn(2, 3, 32, 32)) < 1e-5


def test_a_head_beside_the_backbone(tmp_path: Path) -> None:
    model = timm_vit(depth=1)
    state = {
        ("fc." + n.split(".")[1] if n.startswith("head.") else f"vit.{n}"): v for n, v in model.state_dict().items()
    }
    save_file(prefixed(state, "model.") | {"model.loss_fn.weight": torch.ones(4)}, tmp_path / "a.safetensors")
    found = open_checkpoint(tmp_path / "a.safetensors")
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5
    assert "head: fc, the linear layer beside the backbone" in " ".join(found.assumed).replace("model.fc", "fc")


def test_an_mlp_is_no_head_and_init_does_without(tmp_path: Path) -> None:
    model = torchvision_vit(nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)))
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"has a head \(heads\.0\.bias.*give it to --init"):
        open_checkpoint(tmp_path / "a.safetensors")
    found = open_checkpoint(tmp_path / "a.safetensors", backbone=True)
    assert found.task.name == "features"
    model.heads = nn.Identity()
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5
