"""Modules that weights from a file will fill are built without values, on the meta device without a cost."""

from __future__ import annotations

import torch
from torch import nn

from vitrail.nn.attention import Attention
from vitrail.nn.init import Unset


def test_first_values_are_not_set() -> None:
    x = torch.randn(3, 4)
    kept = x.clone()
    with Unset():
        assert nn.init.ones_(x) is x
        assert nn.init.trunc_normal_(tensor=x, std=0.1) is x
    assert torch.equal(x, kept)
    assert torch.equal(nn.init.ones_(x), torch.ones(3, 4))


def test_what_is_built_has_the_same_names_and_shapes() -> None:
    with torch.device("meta"), Unset():
        built = Attention(8, 2)
    usual = Attention(8, 2)
    assert all(value.is_meta for value in built.state_dict().values())
    assert {n: v.shape for n, v in built.state_dict().items()} == {n: v.shape for n, v in usual.state_dict().items()}
    with Unset():
        assert torch.equal(torch.arange(4) * 2, torch.tensor([0, 2, 4, 6]))
