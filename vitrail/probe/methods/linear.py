"""A linear classifier on standardised features: the linear probe of MAE (He et al. 2022, appendix A.1).

Batch normalisation without scale and shift, then one linear layer, trained by SGD with momentum 0.9 along a cosine for
90 epochs. MAE takes LARS for its batches of 16,384; SGD with a sweep over learning rates is DINO's way.
"""

from __future__ import annotations

import torch
from pydantic import PositiveInt
from torch import Tensor, nn

from vitrail.config import config
from vitrail.probe import Sets
from vitrail.probe.result import Outcome
from vitrail.probe.sweep import Heads, Rates, SweepOptions, choose, groups, train

TAKES = "vectors"


@config
class Options(SweepOptions):
    """As of every sweep."""

    lrs: Rates = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)
    epochs: PositiveInt = 90
    batch_size: PositiveInt = 256


class LinearHeads(Heads):
    """One standardisation for all and H linear layers, which start from zero: B D → H B K."""

    def __init__(self, num_heads: int, dim: int, num_classes: int) -> None:
        super().__init__()
        # momentum None: the mean over all batches, since frozen features do not drift and few labels make few steps
        self.norm = nn.BatchNorm1d(dim, eps=1e-6, momentum=None, affine=False)
        self.weights = nn.ParameterList(torch.zeros(dim, num_classes) for _ in range(num_heads))
        self.biases = nn.ParameterList(torch.zeros(1, num_classes) for _ in range(num_heads))

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(x).expand(len(self.weights), -1, -1)
        return torch.baddbmm(torch.stack(list(self.biases)), x, torch.stack(list(self.weights)))

    def each(self) -> list[list[nn.Parameter]]:
        return [list(pair) for pair in zip(self.weights, self.biases, strict=True)]


def measure(sets: Sets, options: Options, seed: int) -> Outcome:
    """The accuracy of the head of each learning rate and weight decay."""
    heads = LinearHeads(len(options.grid), sets.width, sets.num_classes).to(sets.device)
    optimizer = torch.optim.SGD(groups(heads, options), momentum=0.9)
    train(heads, optimizer, sets.train, options, seed)
    return choose(heads, sets.val, sets.test, options)
