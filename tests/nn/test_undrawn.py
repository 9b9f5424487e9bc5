"""Modules that weights from a file will fill are built without drawing first values."""

from __future__ import annotations

import torch
from torch import nn

from vitrail.nn.attention import Attention
from vitrail.nn.init import skip_init


def test_layers_draw_nothing() -> None:
    before = torch.get_rng_state()
    with skip_init():
        Attention(8, 2, 4)
        nn.Conv2d(3, 4, 2)
    assert torch.equal(torch.get_rng_state(), before)
    Attention(8, 2, 4)
    assert not torch.equal(torch.get_rng_state(), before)


def test_names_and_shapes_are_the_same() -> None:
    with torch.device("meta"), skip_init():
        built = Attention(8, 2, 4, qk_norm=True)
    usual = Attention(8, 2, 4, qk_norm=True)
    assert all(value.is_meta for value in built.state_dict().values())
    assert {n: v.shape for n, v in built.state_dict().items()} == {n: v.shape for n, v in usual.state_dict().items()}
