from __future__ import annotations

import torch
from torch import nn

from vitrail.train.ema import Ema, EmaConfig


def test_the_average_is_the_recursion() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(model, EmaConfig(decay=0.9, warmup=False))
    expected = None
    for _ in range(5):
        with torch.no_grad():
            model.weight.copy_(torch.randn(2, 3))
        ema.update_parameters(model)
        current = model.weight.detach().clone()
        expected = current if expected is None else 0.9 * expected + 0.1 * current
    torch.testing.assert_close(ema.module.weight.detach(), expected)
    assert not ema.module.weight.requires_grad


def test_warmup_forgets_the_first_weights() -> None:
    model = nn.Linear(3, 2)
    ema = Ema(model, EmaConfig(decay=0.999))
    decays = []
    for _ in range(4):
        decays.append(ema.decay())
        ema.update_parameters(model)
    assert decays == [1 / 10, 2 / 11, 3 / 12, 4 / 13]
    ema.n_averaged.fill_(10**6)
    assert ema.decay() == 0.999


def test_buffers_follow_the_model() -> None:
    model = nn.BatchNorm1d(3)
    ema = Ema(model, EmaConfig())
    model(torch.randn(8, 3) + 5)
    ema.update_parameters(model)
    assert torch.equal(ema.module.running_mean, model.running_mean)
