"""The order of channels within a head that rotary positions turn, where a library's is not ours.

We turn channels (2i, 2i+1) together, the first half of the pairs with the column. Others pair the two halves of a head,
or begin with the row. Queries, keys and their norms differ by this order alone, so loading changes the order of rows.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from vitrail.checkpoints.rules import Rule

_PARTS = {  # of our tensor: how many it consists of, and how many of these are queries and keys
    "attention.qkv.weight": (3, 2),
    "attention.qkv.bias": (3, 2),
    "attention.qv_bias": (2, 1),
    "attention.q_norm.weight": (1, 1),
    "attention.q_norm.bias": (1, 1),
    "attention.k_norm.weight": (1, 1),
    "attention.k_norm.bias": (1, 1),
}


@dataclass(frozen=True)
class Layout:
    """A library's order.

    Attributes:
        halves: pair i is channels i and i + d/2, instead of 2i and 2i + 1.
        rows_first: the first half of the pairs turns with the row, instead of the column.
    """

    halves: bool = False
    rows_first: bool = False

    def order(self, head_dim: int) -> list[int]:
        """Their channel for each of ours."""
        pairs = head_dim // 2
        theirs = [(i + pairs // 2) % pairs if self.rows_first else i for i in range(pairs)]
        return [c for i in theirs for c in ((i, i + pairs) if self.halves else (2 * i, 2 * i + 1))]

    def rules(self, rules: Iterable[Rule], head_dim: int) -> list[Rule]:
        """The rules of a block that is in this order, from those of one that is in ours."""
        order = self.order(head_dim)
        if order == list(range(head_dim)):
            return list(rules)
        return [_reordered(rule, order) if rule.ours in _PARTS else rule for rule in rules]


def _reordered(rule: Rule, order: list[int]) -> Rule:
    count, turned = _PARTS[rule.ours]
    back = sorted(range(len(order)), key=order.__getitem__)

    def read(parts: Sequence[Tensor]) -> Tensor:
        return _take(rule.read(parts), order, count, turned)

    def write(value: Tensor) -> Sequence[Tensor]:
        return rule.write(_take(value, back, count, turned))

    return replace(rule, read=read, write=write, direct=False)


def _take(value: Tensor, order: list[int], count: int, turned: int) -> Tensor:
    """The channels of each head in another order, in the first ``turned`` of ``count`` parts of the rows."""
    index = torch.tensor(order, device=value.device)
    parts = list(value.unflatten(0, (count, -1)).unbind())
    for i in range(turned):
        parts[i] = parts[i].unflatten(0, (-1, len(order))).index_select(1, index).flatten(0, 1)
    return torch.cat(parts)
