"""Checkpoints whose model lies in several mappings, and averages that callbacks of Lightning keep.

``{"backbone": …, "head": …}`` lost its head without a word; an average in the state of a callback was not found.

Siblings looked at: parts under other names, with states inside of them, beside states of a training; a head beside a
known state; two copies of one model, which are no parts of each other; averages of a callback by the names of the
module, of its model and in a list, for all tensors or for some.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from small_vits import distance, prefixed, timm_vit
from torch import Tensor, nn

from vitrail.build import open_checkpoint

pytestmark = pytest.mark.usefixtures("forked_python")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return timm_vit(depth=1)


def opened(content: dict[str, Any], file: Path, model: nn.Module) -> tuple[str, ...]:
    torch.save(content, file)
    found = open_checkpoint(file, allow_pickle=True)
    assert distance(found.load(), model, torch.randn(1, 3, 32, 32)) < 1e-5
    return found.assumed


def divided(model: nn.Module) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    state = model.state_dict()
    head = {name.removeprefix("head."): value for name, value in state.items() if name.startswith("head.")}
    return {name: value for name, value in state.items() if not name.startswith("head.")}, head


@pytest.mark.parametrize("names", [("backbone", "head"), ("encoder", "classifier"), ("vit", "fc"), ("model", "linear")])
def test_a_head_in_a_mapping_of_its_own(names: tuple[str, str], model: nn.Module, tmp_path: Path) -> None:
    backbone, head = divided(model)
    said = opened(dict(zip(names, (backbone, head), strict=True)), tmp_path / "a.pth", model)
    assert any(line.startswith("head: ") for line in said)


def test_parts_with_states_inside_and_beside(model: nn.Module, tmp_path: Path) -> None:
    backbone, head = divided(model)
    parts = {"backbone": {"state_dict": prefixed(backbone, "module.")}, "head": {"state_dict": head}}
    opened({**parts, "optimizer": {"state": {0: {"exp_avg": torch.ones(2, 2)}}}, "epoch": 3}, tmp_path / "a.pth", model)
    opened({"model": parts, "epoch": 3}, tmp_path / "b.pth", model)
    said = opened({**parts, "projector": {"0.weight": torch.ones(8, 192)}}, tmp_path / "c.pth", model)
    assert "left out, no part of the model: projector.0.weight" in said


def test_two_copies_of_a_model_are_no_parts_of_each_other(model: nn.Module, tmp_path: Path) -> None:
    other = {name: torch.zeros_like(value) for name, value in model.state_dict().items()}
    said = opened({"model": model.state_dict(), "last": other}, tmp_path / "a.pth", model)
    assert "weights: those under model, of several in the file" in said


@pytest.mark.parametrize(
    "kept",
    [
        lambda state: {"EMA": {"ema_state_dict": prefixed(state, "model.")}},
        lambda state: {"EMACallback": {"shadow": state}},
        lambda state: {"ModelEma{'decay': 0.99}": {"ema": {"module": state}}},
        lambda state: {"StochasticWeightAveraging": {"average_model_state": prefixed(state, "model.")}},
        lambda state: {"EMA": {"ema_weights": list(state.values())}},
        lambda state: {"EMA": {"weights": {name: value for name, value in state.items() if "norm" not in name}}},
    ],
)
def test_an_average_that_a_callback_keeps_comes_before_what_it_averages(
    kept: Any, model: nn.Module, tmp_path: Path
) -> None:
    state = model.state_dict()
    trained = {name: value if "norm" in name else value + 1 for name, value in state.items()}
    content = {"state_dict": prefixed(trained, "model."), "callbacks": kept(state), "pytorch-lightning_version": "2.5"}
    said = opened(content, tmp_path / "last.ckpt", model)
    assert any(line.startswith("weights: those under callbacks.") for line in said)


def test_what_a_callback_keeps_of_another_model_is_none(model: nn.Module, tmp_path: Path) -> None:
    content = {
        "state_dict": prefixed(model.state_dict(), "model."),
        "callbacks": {"EMA": {"ema": {"teacher.weight": torch.ones(3, 3)}}, "ModelCheckpoint": {"best": 0.5}},
    }
    assert not any("callbacks" in line for line in opened(content, tmp_path / "last.ckpt", model))
