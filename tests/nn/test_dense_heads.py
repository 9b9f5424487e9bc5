from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vitrail.nn.dense_heads import CellNorm


@pytest.mark.parametrize(("channels", "groups"), [(8, 1), (16, 1), (32, 2), (48, 3)])
def test_a_cell_is_normalised_by_its_own_channels(channels, groups):
    norm = CellNorm(channels)
    torch.nn.init.normal_(norm.weight)
    torch.nn.init.normal_(norm.bias)
    assert norm.num_groups == groups
    x = torch.randn(2, channels, 3, 5)
    alone = x.movedim(1, -1).reshape(-1, channels)
    expected = F.group_norm(alone, groups, norm.weight, norm.bias).reshape(2, 3, 5, channels).movedim(-1, 1)
    torch.testing.assert_close(norm(x), expected, rtol=1e-5, atol=1e-5)
