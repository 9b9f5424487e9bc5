"""Attention pooling over the frozen patch tokens: what the patches hold although no single vector does.

A learned query attends to the tokens, a residual MLP and a linear layer follow (the attentive probe of Bardes et al.
2024, V-JEPA). No batch normalisation; AdamW along a cosine.
"""

from __future__ import annotations

from copy import deepcopy

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data import keyed_random
from vitrail.errors import UserError
from vitrail.nn.init import initialise
from vitrail.nn.pooling import AttentionPool
from vitrail.probe import Sets
from vitrail.probe.result import Outcome
from vitrail.probe.sweep import Decays, Heads, Rates, SweepOptions, choose, groups, train

TAKES = "tokens"


@config
class Options(SweepOptions):
    """Args:
    heads: of the attention; default: one for each 64 channels.
    """

    lrs: Rates = (0.0001, 0.0003, 0.001, 0.003, 0.01)
    weight_decays: Decays = (0.01,)
    epochs: PositiveInt = 20
    batch_size: PositiveInt = 64
    heads: PositiveInt | None = None


class AttentiveHeads(Heads):
    """H pools with a linear layer each, alike at the start: B T D → H B K."""

    def __init__(self, num_heads: int, dim: int, num_classes: int, attention_heads: int) -> None:
        super().__init__()
        pool = AttentionPool(dim, attention_heads, 4 * dim, "gelu", norm_eps=1e-6)
        initialise(pool)
        self.pools = nn.ModuleList(deepcopy(pool) for _ in range(num_heads))
        self.outputs = nn.ModuleList(nn.Linear(dim, num_classes) for _ in range(num_heads))
        for parameter in self.outputs.parameters():
            nn.init.zeros_(parameter)

    def forward(self, x: Tensor) -> Tensor:
        pooled = (pool(x[:, :0], x) for pool in self.pools)
        return torch.stack([output(each) for output, each in zip(self.outputs, pooled, strict=True)])

    def each(self) -> list[list[nn.Parameter]]:
        pairs = zip(self.pools, self.outputs, strict=True)
        return [[*pool.parameters(), *output.parameters()] for pool, output in pairs]


def measure(sets: Sets, options: Options, seed: int) -> Outcome:
    """The accuracy of the head of each learning rate and weight decay.

    Raises:
        UserError: a number of attention heads that does not divide the width.
    """
    attention_heads = options.heads or next(h for h in range(max(1, sets.width // 64), 0, -1) if sets.width % h == 0)
    if sets.width % attention_heads:
        raise UserError(f"{attention_heads} heads do not divide a width of {sets.width}; set heads to a divisor")
    with keyed_random.torch_seeded(keyed_random.key(seed, "attentive probe")):
        heads = AttentiveHeads(len(options.grid), sets.width, sets.num_classes, attention_heads).to(sets.device)
    optimizer = torch.optim.AdamW(groups(heads, options))
    train(heads, optimizer, sets.train, options, seed)
    return choose(heads, sets.val, sets.test, options)
