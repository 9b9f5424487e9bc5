from __future__ import annotations

import math

import torch
from ranks import on_two_ranks

from vitrail.ops.distillation import cross_entropy_of_pairs, koleo, relative_entropy_of, sinkhorn_knopp


def test_cross_entropy_is_over_all_pairs_of_different_views() -> None:
    targets, logits = torch.rand(2, 5, 7).softmax(-1), torch.randn(4, 5, 7)
    expected, count = 0.0, 0
    for t in range(2):
        for s in range(4):
            if s != t:
                expected += -(targets[t] * torch.log(logits[s].softmax(-1))).sum(-1).mean()
                count += 1
    assert count == 6
    torch.testing.assert_close(cross_entropy_of_pairs(targets, logits), expected / count, rtol=1e-5, atol=1e-5)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(cross_entropy_of_pairs(targets, logits), expected / count, rtol=1e-5, atol=1e-5)


def test_sinkhorn_knopp_equals_a_loop_and_balances() -> None:
    cosines, temperature = torch.rand(12, 5, dtype=torch.float64) * 2 - 1, 0.3
    plan = [[math.exp(value / temperature) for value in row] for row in cosines.tolist()]
    for _ in range(3):
        for k in range(5):
            column = sum(row[k] for row in plan)
            for row in plan:
                row[k] /= column * 5
        for row in plan:
            total = sum(row)
            row[:] = [value / (total * 12) for value in row]
    expected = torch.tensor(plan, dtype=torch.float32) * 12
    torch.testing.assert_close(sinkhorn_knopp(cosines, temperature), expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(sinkhorn_knopp(cosines, torch.tensor(temperature)).sum(1), torch.ones(12))
    many = sinkhorn_knopp(cosines, temperature, 100)
    torch.testing.assert_close(many.sum(0), torch.full((5,), 12 / 5), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(many.sum(1), torch.ones(12))
    assert sinkhorn_knopp(cosines[:0], temperature).shape == (0, 5)


def test_sinkhorn_knopp_takes_outputs_of_any_length() -> None:
    outputs = 9 * torch.randn(12, 5)
    found = sinkhorn_knopp(outputs, 0.04)
    assert found.isfinite().all()
    torch.testing.assert_close(found.sum(1), torch.ones(12))
    torch.testing.assert_close(sinkhorn_knopp(outputs / 9, 1.0), sinkhorn_knopp(outputs, 9.0))


def test_sinkhorn_knopp_bears_collapsed_outputs() -> None:
    cosines = -torch.ones(6, 4)
    cosines[:, 0] = 1
    assert sinkhorn_knopp(cosines, 0.01).isfinite().all()


def test_koleo_equals_a_loop_and_so_does_its_gradient() -> None:
    features = torch.randn(7, 5, requires_grad=True)
    unit = [row / row.norm() for row in features]
    terms = [
        torch.stack([(a - b).norm() for j, b in enumerate(unit) if j != i]).min().log() for i, a in enumerate(unit)
    ]
    expected = -sum(terms) / 7
    torch.testing.assert_close(koleo(features), expected, rtol=1e-5, atol=1e-5)
    gradients = [torch.autograd.grad(loss, features)[0] for loss in (koleo(features), expected)]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-5)
    assert koleo(features[:1]) == 0


def test_koleo_of_equal_features_has_a_finite_gradient() -> None:
    features = torch.randn(1, 5).repeat(4, 1).requires_grad_()
    koleo(features).backward()
    assert features.grad.isfinite().all()


def test_the_entropy_is_a_share() -> None:
    probabilities = torch.randn(5, 9).softmax(-1)
    expected = torch.distributions.Categorical(probabilities).entropy().mean() / math.log(9)
    torch.testing.assert_close(relative_entropy_of(probabilities), expected)
    assert relative_entropy_of(torch.eye(9)) == 0
    torch.testing.assert_close(relative_entropy_of(torch.full((3, 9), 1 / 9)), torch.tensor(1.0))


def _on_a_rank(rank: int, cosines: torch.Tensor, features: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    own = (cosines[:4], cosines[4:])[rank]  # ranks bring different numbers of rows
    return sinkhorn_knopp(own, 0.2), koleo(features.chunk(2)[rank])


def test_two_ranks_balance_and_spread_as_one() -> None:
    cosines, features = torch.rand(10, 6) * 2 - 1, torch.randn(8, 5)
    (first, some), (second, others) = on_two_ranks(_on_a_rank, cosines, features)
    torch.testing.assert_close(torch.cat((first, second)), sinkhorn_knopp(cosines, 0.2), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close((some + others) / 2, koleo(features), rtol=1e-5, atol=1e-6)
