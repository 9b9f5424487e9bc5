from __future__ import annotations

import pytest
import torch
from timm.optim import Lamb as TimmLamb
from torch import nn

from vitrail.train.lamb import Lamb


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_steps_are_timms(weight_decay: float) -> None:
    torch.manual_seed(0)
    ours = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    theirs = nn.Sequential(nn.Linear(7, 5), nn.LayerNorm(5), nn.Linear(5, 3))
    theirs.load_state_dict(ours.state_dict())
    nn.init.zeros_(ours[2].weight)  # a zero norm: the ratio is 1
    nn.init.zeros_(theirs[2].weight)

    def groups(model: nn.Module) -> list[dict[str, object]]:
        kernels, rest = ([p for p in model.parameters() if (p.ndim > 1) is wanted] for wanted in (True, False))
        return [{"params": kernels, "weight_decay": weight_decay}, {"params": rest, "weight_decay": 0.0}]

    a = Lamb(groups(ours), lr=0.02)
    b = TimmLamb(groups(theirs), lr=0.02, max_grad_norm=None)
    for step in range(8):
        x = torch.randn(16, 7)
        for model, optimizer in ((ours, a), (theirs, b)):
            for group in optimizer.param_groups:
                group["lr"] = 0.02 / (1 + step)
            model(x).square().sum().sub(3).square().backward()
            optimizer.step()
            optimizer.zero_grad()
        for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
            torch.testing.assert_close(mine, other, rtol=1e-5, atol=1e-6)


def test_the_step_scales_with_the_weights() -> None:
    """LAMB's point: a matrix ten times as large takes steps ten times as large."""
    torch.manual_seed(0)
    gradient = torch.randn(6, 6)
    start = torch.randn(6, 6)
    moves = []
    for scale in (1.0, 10.0):
        weight = nn.Parameter(start * scale)
        weight.grad = gradient.clone()
        Lamb([weight], lr=0.01, weight_decay=1e-12).step()
        moves.append((weight.detach() - start * scale).norm())
    torch.testing.assert_close(moves[1], 10 * moves[0], rtol=1e-4, atol=0)


def test_parameters_without_gradient_stay() -> None:
    used, unused = nn.Parameter(torch.randn(3)), nn.Parameter(torch.randn(3))
    before = unused.detach().clone()
    used.grad = torch.randn(3)
    optimizer = Lamb([used, unused])
    optimizer.step()
    assert torch.equal(unused, before)
    assert unused not in optimizer.state


def test_a_parameter_that_was_frozen_at_first_begins_as_a_new_one() -> None:
    torch.manual_seed(0)
    early, late = nn.Parameter(torch.randn(4, 3)), nn.Parameter(torch.randn(4, 3))
    expected = nn.Parameter(late.detach().clone())
    ours = Lamb([early, late], lr=0.02, weight_decay=0.1)
    theirs = TimmLamb([expected], lr=0.02, weight_decay=0.1, max_grad_norm=None)
    for step in range(12):
        early.grad = torch.randn(4, 3)
        if step >= 6:
            late.grad = torch.randn(4, 3)
            expected.grad = late.grad.clone()
            theirs.step()
        ours.step()
        torch.testing.assert_close(late, expected, rtol=1e-5, atol=1e-6)
