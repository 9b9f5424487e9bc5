from __future__ import annotations

from typing import Any

import torch
from ranks import on_two_ranks, share
from torch import Tensor

from vitrail.ops import collective


def objective(rows: Tensor, weights: Tensor, own: slice) -> Tensor:
    """Something of every row and of all rows together; the mean over the rows ``own`` of what depends on all."""
    mean = collective.mean_over_ranks(rows.mean(dim=0))
    everyone = collective.gathered(rows)
    return ((rows - mean).exp() * (rows @ everyone.T).cos().sum(dim=1, keepdim=True) * weights[own]).mean()


def on_a_rank(rank: int, rows: Tensor, weights: Tensor) -> dict[str, Any]:
    own = slice(rank, None, 2)
    mine = rows[own].clone().requires_grad_()
    loss = objective(mine, weights, own)
    loss.backward()
    return {
        "rank": (collective.rank(), collective.num_ranks()),
        "gathered": collective.gathered(mine).detach(),
        "mean": collective.mean_over_ranks(mine).detach(),
        "integers": collective.gathered(torch.tensor([rank, 7])),
        "loss": loss.detach(),
        "gradient": mine.grad,
    }


def test_two_ranks_equal_one_process_that_holds_all_rows():
    rows, weights = torch.randn(2, 8, 5, dtype=torch.float64)
    ranks = on_two_ranks(on_a_rank, rows, weights)
    assert [found["rank"] for found in ranks] == [(0, 2), (1, 2)]
    whole = rows.clone().requires_grad_()
    loss = objective(whole, weights, slice(None))
    loss.backward()
    torch.testing.assert_close(sum(found["loss"] for found in ranks) / 2, loss.detach())
    for rank, found in enumerate(ranks):
        assert torch.equal(found["gathered"], torch.cat([share(rows, 0), share(rows, 1)]))
        torch.testing.assert_close(found["mean"], (share(rows, 0) + share(rows, 1)) / 2)
        assert found["integers"].tolist() == [0, 7, 1, 7]
        # DDP averages the gradients of parameters, so each rank's share of the rows counts twice.
        torch.testing.assert_close(found["gradient"] / 2, share(whole.grad, rank))


def test_alone_each_is_the_identity():
    rows = torch.randn(3, 2, requires_grad=True)
    assert collective.gathered(rows) is rows
    assert collective.mean_over_ranks(rows) is rows
    assert (collective.rank(), collective.num_ranks()) == (0, 1)
