from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from vitrail.ops.contrastive import info_nce, nt_xent


def cosine(a: Tensor, b: Tensor) -> float:
    return float(a @ b / (a.norm() * b.norm()))


def nt_xent_reference(first: Tensor, second: Tensor, temperature: float) -> tuple[float, float]:
    """Equation 1 of Chen et al. 2020, term by term."""
    views, losses, right = torch.cat((first, second)).double(), [], []
    num = len(views)
    for i in range(num):
        partner = (i + num // 2) % num
        exps = {j: math.exp(cosine(views[i], views[j]) / temperature) for j in range(num) if j != i}
        losses.append(-math.log(exps[partner] / sum(exps.values())))
        right.append(max(exps, key=exps.get) == partner)
    return sum(losses) / num, sum(right) / num


def info_nce_reference(queries: Tensor, keys: Tensor, temperature: float) -> tuple[float, float]:
    losses, right = [], []
    for i, query in enumerate(queries.double()):
        exps = [math.exp(cosine(query, key) / temperature) for key in keys.double()]
        losses.append(-math.log(exps[i] / sum(exps)))
        right.append(max(exps) == exps[i])
    return sum(losses) / len(queries), sum(right) / len(queries)


@pytest.mark.parametrize(
    ("ours", "reference"), [(nt_xent, nt_xent_reference), (info_nce, info_nce_reference)], ids=["nt_xent", "info_nce"]
)
@pytest.mark.parametrize("temperature", [0.1, 0.5])
def test_losses_are_their_formulas(ours, reference, temperature):
    first = torch.randn(6, 5) * 3
    second = first + 2 * torch.randn(6, 5)
    loss, accuracy = ours(first, second, temperature)
    expected = reference(first, second, temperature)
    assert float(loss) == pytest.approx(expected[0], abs=1e-5, rel=1e-5)
    assert float(accuracy) == pytest.approx(expected[1])
    scaled, _ = ours(7 * first, second / 3, temperature)  # only directions count
    torch.testing.assert_close(scaled, loss)


def test_nt_xent_is_symmetric_and_gradients_are_those_of_the_formula():
    first, second = torch.randn(2, 4, 3).requires_grad_()
    loss, accuracy = nt_xent(first, second, 0.3)
    other, same = nt_xent(second, first, 0.3)
    torch.testing.assert_close(loss, other)
    assert accuracy == same
    (gradient,) = torch.autograd.grad(loss, second)
    step = torch.randn(4, 3) * 1e-3
    ahead, behind = (nt_xent_reference(first.detach(), second.detach() + way * step, 0.3)[0] for way in (1, -1))
    assert float((gradient * step).sum()) == pytest.approx((ahead - behind) / 2, rel=1e-3, abs=1e-7)


def test_accuracy_tells_partners_apart():
    directions = torch.eye(4)
    assert nt_xent(directions, directions, 0.1)[1] == 1
    assert info_nce(directions, directions, 0.1)[1] == 1
    assert nt_xent(directions, directions.roll(1, 0), 0.1)[1] == 0
    assert info_nce(directions, directions.roll(1, 0), 0.1)[1] == 0
    collapsed = torch.ones(8, 4)
    assert info_nce(collapsed, collapsed, 0.1)[1] == 1 / 8
    assert float(info_nce(collapsed, collapsed, 0.1)[0]) == pytest.approx(math.log(8))
    assert float(nt_xent(collapsed, collapsed, 0.1)[0]) == pytest.approx(math.log(15))


@pytest.mark.parametrize("ours", [nt_xent, info_nce])
def test_half_precision_does_not_reach_the_logits(ours):
    first, second = torch.randn(2, 16, 64)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = ours(first, second, 0.1)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, ours(first, second, 0.1)[0], rtol=1e-6, atol=1e-6)
