from __future__ import annotations

from typing import get_args

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from vitrail.ops.interpolation import interpolate, interpolation_matrix
from vitrail.ops.positions import Resampling, resample

RULES = [rule for rule in get_args(Resampling) if rule != "bicubic_offset"]
sides = st.integers(1, 24)


@pytest.mark.parametrize("rule", RULES)
@given(old=st.tuples(sides, sides), new=st.tuples(sides, sides))
def test_two_products_are_what_pytorch_interpolates(rule, old, new):
    table = torch.randn(1, old[0] * old[1], 3, generator=torch.Generator().manual_seed(old[0]))
    torch.testing.assert_close(
        interpolate(table, old, new, rule), resample(table, old, new, rule), atol=2e-5, rtol=1e-4
    )


@pytest.mark.parametrize("rule", RULES)
def test_a_row_sums_to_1_and_the_native_grid_stays(rule):
    torch.testing.assert_close(interpolation_matrix(7, 13, rule).sum(1), torch.ones(13))
    torch.testing.assert_close(interpolation_matrix(9, 9, rule), torch.eye(9))
