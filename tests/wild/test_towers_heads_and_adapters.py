"""facebookresearch/dinov2#284, mlfoundations/open_clip#663, huggingface/peft#1453: DINOv2's linear classifiers,
open_clip's towers from timm, and LoRA adapters that are merged when they are opened.

Siblings looked at: classifiers on one layer and on four; projections that are linear, an MLP, the trunk's own head, or
none; adapters whose weights are a path, a path beside the adapter, or not here; their heads.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from small_vits import distance, prefixed, randomised, timm_vit
from torch import Tensor, nn

import vitrail
from vitrail.build import open_checkpoint
from vitrail.errors import UserError
from vitrail.lora import LoraConfig, adapted, attach
from vitrail.lora.peft import write


class LinearClassifier(nn.Module):
    """As Meta's hub builds it: class tokens of the last layers and the mean of the patches."""

    def __init__(self, backbone: nn.Module, layers: int) -> None:
        super().__init__()
        self.backbone, self.layers = backbone, layers
        self.linear_head = nn.Linear((1 + layers) * 192, 7)

    def forward(self, x: Tensor) -> Tensor:
        found = self.backbone.get_intermediate_layers(x, n=self.layers, return_prefix_tokens=True, norm=True)
        inputs = [*(tokens[:, 0] for _, tokens in found), found[-1][0].mean(dim=1)]
        return self.linear_head(torch.cat(inputs, dim=1))


@pytest.mark.parametrize("layers", [1, 4])
def test_linear_classifiers_of_dinov2(layers: int, tmp_path: Path) -> None:
    model = randomised(LinearClassifier(timm_vit(depth=5, num_classes=0, init_values=1.0), layers))
    save_file({**model.state_dict(), "backbone.mask_token": torch.zeros(1, 192)}, tmp_path / "lc.safetensors")
    found = open_checkpoint(tmp_path / "lc.safetensors")
    assert found.dialect == "dinov2"
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5
    vitrail.convert(tmp_path / "lc.safetensors", tmp_path / "native.safetensors", to="native")
    assert distance(open_checkpoint(tmp_path / "native.safetensors").load(), model, torch.randn(1, 3, 32, 32)) < 1e-5


class Tower(nn.Module):
    """open_clip's ``TimmModel`` around a small trunk."""

    def __init__(self, projection: str) -> None:
        from timm.layers import Mlp

        super().__init__()
        own = projection == "trunk"
        self.trunk = timm_vit(depth=1, num_classes=24 if own else 0)
        parts = {"linear": ("proj", nn.Linear(192, 24, bias=False)), "mlp": ("mlp", Mlp(192, 48, 24))}
        self.head = nn.Sequential()
        if projection in parts:
            self.head.add_module(*parts[projection])

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.trunk(x))


@pytest.mark.parametrize("projection", ["linear", "mlp", "trunk", "none"])
def test_towers_of_open_clip(projection: str, tmp_path: Path) -> None:
    model = randomised(Tower(projection))
    tower = {"timm_model_name": "vit_tiny_patch16_224", "timm_pool": "token", "image_size": 32}
    save_file(
        {
            **prefixed(model.state_dict(), "visual."),
            "logit_scale": torch.ones(()),
            "text.token_embedding": torch.ones(2),
        },
        tmp_path / "open_clip_model.safetensors",
    )
    (tmp_path / "open_clip_config.json").write_text(json.dumps({"model_cfg": {"embed_dim": 24, "vision_cfg": tower}}))
    found = open_checkpoint(tmp_path)
    assert (found.dialect, found.task.name) == ("open_clip_timm", "features")
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5


@pytest.fixture
def adapter(tiny_predictor: Any, tmp_path: Path) -> tuple[Path, nn.Module]:
    """A folder of PEFT beside its weights, and the model that both make."""
    tiny_predictor().save(tmp_path / "base.safetensors")
    task = tiny_predictor().task
    attach(task, LoraConfig(rank=2, alpha=6))
    for _, layer in adapted(task):
        nn.init.normal_(layer.lora_B, std=0.3)
    (tmp_path / "adapter").mkdir()
    write(tmp_path / "adapter", task, LoraConfig(rank=2, alpha=6), str(tmp_path / "base.safetensors"))
    return tmp_path / "adapter", task.eval()


def test_an_adapter_is_merged_when_it_is_opened(adapter: tuple[Path, nn.Module]) -> None:
    folder, task = adapter
    images = torch.randn(2, 3, 16, 24)
    assert distance(vitrail.load(folder, device="cpu").task, task, images) < 1e-5
    settings = json.loads((folder / "adapter_config.json").read_text())
    (folder / "adapter_config.json").write_text(
        json.dumps(settings | {"base_model_name_or_path": "../base.safetensors"})
    )
    found = open_checkpoint(folder)
    assert found.file == folder
    assert distance(found.load(), task, images) < 1e-5


def test_weights_that_are_not_here(adapter: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch) -> None:
    folder, _ = adapter
    settings = json.loads((folder / "adapter_config.json").read_text())
    for base in ("nobody/nothing", None):
        (folder / "adapter_config.json").write_text(json.dumps(settings | {"base_model_name_or_path": base}))
        with pytest.raises(UserError, match="merge-adapter"):
            open_checkpoint(folder)
    assert load_file(folder / "adapter_model.safetensors")
