"""Lightning-AI/pytorch-lightning#2617, microsoft/unilm#521, mlfoundations/open_clip#1078: checkpoints of trainings.

Lightning's ``.ckpt`` with a loss and metrics beside the model, ``AttributeDict`` and paths among the arguments; timm's
``.pth.tar``; ``.PTH`` and files without a suffix; DeepSpeed's ``module``, ``ema``, ``ema_state_dict``, ``net``; NumPy
scalars beside the weights.

Siblings looked at: averages whose counters are tensors by name, states under unknown names, dtypes and arrays of NumPy,
``defaultdict``, ``deque``, ``Namespace``, times, OmegaConf's classes; and that nothing that runs code became data.
"""

from __future__ import annotations

import argparse
import collections
import datetime
import json
import os
import pathlib
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from small_vits import distance, prefixed, timm_vit
from torch import nn

from vitrail.build import open_checkpoint
from vitrail.errors import UserError

pytestmark = pytest.mark.usefixtures("forked_python")


@pytest.fixture(scope="module")
def model() -> nn.Module:
    return timm_vit(depth=1)


def stand_in(monkeypatch: pytest.MonkeyPatch, module: str, name: str, base: type) -> type:
    """A class that pickles under the name of another library's."""
    made = type(name, (base,), {"__module__": module})
    parts = module.split(".")
    for count in range(1, len(parts) + 1):
        path = ".".join(parts[:count])
        monkeypatch.setitem(sys.modules, path, types.ModuleType(path))
    setattr(sys.modules[module], name, made)
    return made


def opened(content: dict[str, Any], file: Path, model: nn.Module) -> Any:
    torch.save(content, file)
    with pytest.raises(UserError, match="pass --allow-pickle"):
        open_checkpoint(file)
    found = open_checkpoint(file, allow_pickle=True)
    assert distance(found.load(), model, torch.randn(1, 3, 32, 32)) < 1e-5
    return found


@pytest.mark.parametrize("module", ["pytorch_lightning.utilities.parsing", "lightning.fabric.utilities.data"])
def test_lightning(model: nn.Module, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = stand_in(monkeypatch, module, "AttributeDict", dict)
    beside = {
        "criterion.weight": torch.ones(4),
        "val_acc.confmat": torch.zeros(4, 4),
        "train_metrics.total": torch.tensor(3),
        "ema.num_updates": torch.tensor(7.0),
    }
    content = {
        "state_dict": prefixed(model.state_dict(), "model.") | beside,
        "hyper_parameters": options(lr=np.float64(1e-3), folder=pathlib.PosixPath("/data"), dtype=np.dtype("float32")),
        "callbacks": {"best": np.float32(0.5), "when": datetime.timedelta(seconds=3)},
        "optimizer_states": [{"state": {0: {"exp_avg": torch.ones(2, 2)}}}],
    }
    found = opened(content, tmp_path / "last.ckpt", model)
    assert [line for line in found.assumed if "left out" in line] == [
        "left out, no part of the model: criterion.weight, ema.num_updates, train_metrics.total and 1 more"
    ]


STATES = {
    "timm": ("model_best.pth.tar", lambda s: {"epoch": 3, "arch": "vit", "state_dict": prefixed(s, "module.")}),
    "upper case": ("net.PTH", lambda s: {"net": s, "best": np.float64(0.9)}),
    "no suffix": ("weights", lambda s: {"module": s, "ds_version": "0.14", "dp_world_size": 8}),
    "ema": ("a.pt", lambda s: {"ema": s, "model": {name: value * 0 for name, value in s.items()}}),
    "ema with counters": ("a.pt", lambda s: {"ema": {"decay": 0.9, "num_updates": torch.tensor(4)}, "model": s}),
    "ema_state_dict": ("a.pt", lambda s: {"ema_state_dict": s, "state_dict": {n: v * 0 for n, v in s.items()}}),
    "unknown name": ("a.pt", lambda s: {"my_weights": s, "buffer": {"x": torch.ones(2, 2)}}),
    "options": (
        "a.bin",
        lambda s: {
            "model": s,
            "args": argparse.Namespace(out=pathlib.Path("x"), seen=collections.deque([1])),
            "log": collections.defaultdict(list, {"loss": [np.float32(1)]}),
            "mean": np.zeros(3),
        },
    ),
}


@pytest.mark.parametrize("case", STATES)
def test_states_of_trainings(model: nn.Module, case: str, tmp_path: Path) -> None:
    name, make = STATES[case]
    opened(make(model.state_dict()), tmp_path / name, model)


def test_shards_of_pickles_and_folders_with_one(model: nn.Module, tmp_path: Path) -> None:
    state = model.state_dict()
    half = len(state) // 2
    parts = {"pytorch_model-1.bin": list(state)[:half], "pytorch_model-2.bin": list(state)[half:]}
    (tmp_path / "shards").mkdir()
    for file, names in parts.items():
        torch.save({name: state[name] for name in names}, tmp_path / "shards" / file)
    index = {"weight_map": {name: file for file, names in parts.items() for name in names}}
    (tmp_path / "shards" / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    (tmp_path / "one").mkdir()
    torch.save(state, tmp_path / "one" / "checkpoint-9.ckpt")
    for folder in ("shards", "one"):
        with pytest.raises(UserError, match="pass --allow-pickle"):
            open_checkpoint(tmp_path / folder)
        found = open_checkpoint(tmp_path / folder, allow_pickle=True)
        assert distance(found.load(), model, torch.randn(1, 3, 32, 32)) < 1e-5


def test_a_pickle_of_a_later_protocol_says_so(model: nn.Module, tmp_path: Path) -> None:
    torch.save(model.state_dict(), tmp_path / "a.pth", pickle_protocol=4)
    with pytest.raises(UserError, match="pickle of protocol 3 or later; save it again"):
        open_checkpoint(tmp_path / "a.pth", allow_pickle=True)


def test_a_folder_with_several_pickles_names_them(tmp_path: Path) -> None:
    for name in ("mp_rank_00_model_states.pt", "zero_pp_rank_0_mp_rank_00_optim_states.pt"):
        (tmp_path / name).touch()
    with pytest.raises(
        UserError, match=r"several files of torch\.save \(mp_rank_00_model_states\.pt, zero.*name the one"
    ):
        open_checkpoint(tmp_path, allow_pickle=True)


def test_counts_of_operations_are_left_out(model: nn.Module, tmp_path: Path) -> None:
    counts = {f"{at}total_{of}": torch.zeros(1) for at in ("", "blocks.0.attn.") for of in ("ops", "params")}
    opened({"state_dict": model.state_dict() | counts}, tmp_path / "a.pth", model)


def test_what_runs_code_is_still_refused(model: nn.Module, tmp_path: Path) -> None:
    class Evil:
        def __reduce__(self) -> Any:
            return os.system, (f"touch {tmp_path / 'ran'}",)

    for place in ({"hyper_parameters": Evil()}, {"log": collections.defaultdict(list, {"x": Evil()})}):
        torch.save({"state_dict": model.state_dict(), **place}, tmp_path / "a.ckpt")
        with pytest.raises(UserError, match=r"posix\.system"):
            open_checkpoint(tmp_path / "a.ckpt", allow_pickle=True)
    assert not (tmp_path / "ran").exists()
