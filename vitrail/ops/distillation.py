"""Soft targets of self-distillation, and regularisers against collapse. B batch, K outputs, D width.

"The batch" is the samples of all processes together; the arithmetic is float32 under autocast too.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import normalize, pad

from vitrail.ops.collective import gathered, mean_over_ranks, rank


def cross_entropy_of_pairs(targets: Tensor, logits: Tensor) -> Tensor:
    """Mean cross-entropy over the batch and all pairs of a teacher's and a student's view, save those of the same view
    (Caron et al. 2021, equation 3).

    Args:
        targets: (T, B, K), probabilities for each of the teacher's views.
        logits: (S, B, K), of all views; the first T are the teacher's.
    """
    with torch.autocast(logits.device.type, enabled=False):
        pairs = -torch.einsum("tbk,sbk->ts", targets, logits.log_softmax(dim=-1)) / logits.shape[1]
    return (pairs.sum() - pairs.diagonal().sum()) / (pairs.numel() - len(pairs))


def sinkhorn_knopp(outputs: Tensor, temperature: Tensor | float, num_iterations: int = 3) -> Tensor:
    """Probabilities (B, K) near softmax(outputs / temperature) that give every output an equal share of the batch
    (Caron et al. 2020, SwAV, section 3.1). Rows sum to 1; columns to B / K the better the more iterations.

    Args:
        outputs: (B, K); ranks may bring different B.
    """
    outputs = outputs.float()
    largest = mean_over_ranks(pad(outputs.flatten(), (0, 1)).amax())  # one for all; 0 counts where a rank has no rows
    logits = (outputs - largest) / temperature
    rows, columns = logits.new_zeros(len(logits), 1), logits.new_zeros(logits.shape[1])
    for _ in range(num_iterations):
        sums = mean_over_ranks((logits + rows).exp().sum(dim=0))
        columns = sums.clamp_min(torch.finfo(sums.dtype).tiny).log()
        rows = -(logits - columns).logsumexp(dim=1, keepdim=True)
    return (logits - columns + rows).exp()


def koleo(features: Tensor) -> Tensor:
    """Mean of -log of the distance from each feature of the batch, at length 1, to its nearest other: it spreads them
    evenly over the sphere (Sablayrolles et al. 2019, section 3.2). 0 for one alone.

    Args:
        features: (B, D).
    """
    own = normalize(features.float(), dim=1)
    every = gathered(own)
    if len(every) < 2:
        return own.sum() * 0
    with torch.no_grad(), torch.autocast(own.device.type, enabled=False):
        similarity = own @ every.T
        rows = torch.arange(len(own), device=own.device)
        similarity[rows, rows + rank() * len(own)] = -torch.inf
        nearest = similarity.argmax(dim=1)
    return -((own - every[nearest]).norm(dim=1) + 1e-8).log().mean()


def relative_entropy_of(probabilities: Tensor) -> Tensor:
    """Mean entropy of the rows of (B, K) as a share of log K: 0 where each is sure of one output, 1 where all are
    uniform."""
    return torch.special.entr(probabilities).sum(dim=1).mean() / math.log(probabilities.shape[1])
