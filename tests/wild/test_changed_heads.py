"""mrdbourke/pytorch-deep-learning#1221: torchvision's ViT after ``model.heads = nn.Linear(…)`` or Dropout and Linear.

Siblings looked at: the same in timm and transformers, a layer without bias; a head beside a wrapped backbone, or after
it in an ``nn.Sequential``; an MLP in its place, which only ``--init`` can do without.
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


@pytest.mark.parametrize("head", HEADS)
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


@pytest.mark.parametrize(("vit", "fc"), [("vit", "fc"), ("vit", "out_layer"), ("0", "2")])
def test_a_head_beside_the_backbone(vit: str, fc: str, tmp_path: Path) -> None:
    model = timm_vit(depth=1)
    state = {
        (f"{fc}." + n.split(".")[1] if n.startswith("head.") else f"{vit}.{n}"): v
        for n, v in model.state_dict().items()
    }
    save_file(prefixed(state, "model.") | {"model.loss_fn.weight": torch.ones(4)}, tmp_path / "a.safetensors")
    found = open_checkpoint(tmp_path / "a.safetensors")
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5
    assert f"head: model.{fc}, the linear layer beside the backbone" in found.assumed


def test_what_is_wrong_beside_a_settled_head_is_said(tmp_path: Path) -> None:
    import transformers

    sizes = {"hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 1, "intermediate_size": 64}
    config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8, num_labels=4)
    model = transformers.ViTForImageClassification(config)
    model.classifier = nn.Sequential(nn.Dropout(0.1), nn.Linear(64, 7))
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(config.to_json_string())
    with pytest.raises(UserError, match=r"id2label in config\.json does not number the 7 outputs"):
        open_checkpoint(tmp_path)
    config.num_labels = 7
    (tmp_path / "config.json").write_text(config.to_json_string())
    randomised(model)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    images = torch.randn(2, 3, 16, 16)
    with torch.no_grad():
        ours, theirs = open_checkpoint(tmp_path).load().eval()(images), model(images).logits
    assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))


def test_an_mlp_is_no_head_and_init_does_without(tmp_path: Path) -> None:
    model = torchvision_vit(nn.Sequential(nn.Linear(64, 8), nn.ReLU(), nn.Linear(8, 3)))
    save_file(model.state_dict(), tmp_path / "a.safetensors")
    with pytest.raises(UserError, match=r"has a head \(heads\.0\.bias.*give it to --init"):
        open_checkpoint(tmp_path / "a.safetensors")
    found = open_checkpoint(tmp_path / "a.safetensors", backbone=True)
    assert found.task.name == "features"
    model.heads = nn.Identity()
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5
