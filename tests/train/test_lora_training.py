"""A training of adapters: resuming, averaging, and the files that it leaves."""

from __future__ import annotations

import pytest
import torch
from tiny import tiny_run

from vitrail.checkpoints import native
from vitrail.errors import UserError
from vitrail.lora.peft import merge_adapter
from vitrail.train.ema import EmaConfig
from vitrail.train.loop import fit


@pytest.mark.parametrize("ema", [None, EmaConfig(decay=0.9)])
def test_adapters_are_trained_resumed_and_merged(ema, bands, tmp_path):
    fit(tiny_run(bands, epochs=1), tmp_path / "base")
    settings = {"init": str(tmp_path / "base"), "lora": {"rank": 2}, "optimizer": {"lr": 0.01}, "ema": ema}
    fit(tiny_run(bands, epochs=2, **settings), tmp_path / "whole")
    fit(tiny_run(bands, epochs=1, **settings), tmp_path / "parts")
    base, found = (native.load(tmp_path / name / "weights" / "last.safetensors") for name in ("base", "whole"))
    assert base.state.keys() == found.state.keys()
    changed = {name for name in base.state if not torch.equal(base.state[name], found.state[name])}
    kernels = {name for name in base.state if name.startswith("vit.blocks.") and base.state[name].ndim == 2}
    assert changed == {name for name in kernels if name.endswith("weight")} | {"head.output.weight", "head.output.bias"}
    for name in kernels:
        assert torch.linalg.matrix_rank(found.state[name] - base.state[name], rtol=1e-3) <= 2
    again = merge_adapter(tmp_path / "base" / "weights" / "best.safetensors", tmp_path / "whole" / "adapter" / "last")
    for name, value in again.task.state_dict().items():
        torch.testing.assert_close(value, found.state[name])
    fit(tiny_run(bands, epochs=2, **settings), tmp_path / "parts", extend=True)
    assert native.load(tmp_path / "parts" / "weights" / "last.safetensors").state.keys() == found.state.keys()


def test_adapters_need_weights(bands, tmp_path):
    with pytest.raises(UserError, match="lora adapts trained weights and needs weights to start from: give --init"):
        fit(tiny_run(bands, lora={"rank": 2}), tmp_path / "run")
