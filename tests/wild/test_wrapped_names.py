"""huggingface/transformers#28041, huggingface/safetensors#403: weights under ``_orig_mod.``, ``module.``, ``model.`` or
``backbone.`` opened as .pth and not as .safetensors.

Siblings looked at: shards, .npz, wrappers inside of a name (one compiled block, FSDP, activation checkpoints), nested,
unknown ones, places in an ``nn.Sequential``, a model beside its average under a longer name, two unrelated models.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from small_vits import distance, prefixed, timm_vit
from torch import Tensor, nn

from vitrail.build import open_checkpoint
from vitrail.errors import UserError

State = dict[str, Tensor]


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return timm_vit()


def safetensors(state: State, folder: Path) -> Path:
    save_file(state, folder / "model.safetensors")
    return folder / "model.safetensors"


def shards(state: State, folder: Path) -> Path:
    names = sorted(state)
    parts = {"a.safetensors": names[::2], "b.safetensors": names[1::2]}
    for file, own in parts.items():
        save_file({name: state[name] for name in own}, folder / file)
    index = {"weight_map": {name: file for file, own in parts.items() for name in own}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def npz(state: State, folder: Path) -> Path:
    np.savez(folder / "model.npz", **{name: value.numpy() for name, value in state.items()})
    return folder / "model.npz"


@pytest.mark.parametrize("store", [safetensors, shards, npz])
@pytest.mark.parametrize("prefix", ["_orig_mod.", "module.model.backbone.", "net._forward_module.my_vit.", "model.0."])
def test_wrappers_before_the_names(
    model: nn.Module, store: Callable[[State, Path], Path], prefix: str, tmp_path: Path
) -> None:
    found = open_checkpoint(store(prefixed(model.state_dict(), prefix), tmp_path))
    assert found.dialect == "timm"
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5


@pytest.mark.parametrize("inner", ["_orig_mod.", "module.", "_fsdp_wrapped_module._checkpoint_wrapped_module."])
def test_wrappers_inside_of_names(model: nn.Module, inner: str, tmp_path: Path) -> None:
    state = {name.replace("blocks.1.", f"blocks.1.{inner}"): value for name, value in model.state_dict().items()}
    found = open_checkpoint(safetensors(state, tmp_path))
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5


@pytest.mark.parametrize("average", ["model_ema.", "model_with_ema.module."])
def test_the_average_comes_before_the_model_and_both_are_named(average: str, model: nn.Module, tmp_path: Path) -> None:
    own = model.state_dict()
    others = {name: torch.zeros_like(value) for name, value in own.items()}
    found = open_checkpoint(safetensors({**prefixed(own, average), **prefixed(others, "model.")}, tmp_path))
    assert distance(found.load(), model, torch.randn(2, 3, 32, 32)) < 1e-5
    assert any("left out" in line and "model.blocks.0" in line for line in found.assumed)


def test_two_models_of_which_none_is_preferred(model: nn.Module, tmp_path: Path) -> None:
    state = prefixed(model.state_dict(), "left.") | prefixed(model.state_dict(), "right.")
    with pytest.raises(UserError, match=r"several models \(left\., right\.\); keep the tensors of one"):
        open_checkpoint(safetensors(state, tmp_path))


def test_a_part_of_the_model_is_not_left_out(model: nn.Module, tmp_path: Path) -> None:
    state = prefixed(model.state_dict(), "module.") | {"module.blocks.0.attn.gate": torch.ones(3)}
    with pytest.raises(UserError, match=r"unknown blocks\.0\.attn\.gate"):
        open_checkpoint(safetensors(state, tmp_path))
