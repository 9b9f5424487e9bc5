"""What every comparison with a real library needs."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn


@pytest.fixture
def randomise() -> Callable[[nn.Module], nn.Module]:
    """Every parameter drawn afresh, so that nothing agrees by being 0 or 1; in evaluation mode."""

    def fill(model: nn.Module) -> nn.Module:
        torch.manual_seed(0)
        for parameter in model.parameters():
            nn.init.normal_(parameter, std=0.2)
        return model.eval()

    return fill


@pytest.fixture
def close() -> Callable[..., None]:
    """Equal to 1e-5 of the largest value."""

    def check(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
        assert ours.shape == theirs.shape
        assert theirs.abs().max() > 1e-3, "nothing to compare"
        assert (ours - theirs).abs().max() <= tolerance * theirs.abs().max()

    return check
