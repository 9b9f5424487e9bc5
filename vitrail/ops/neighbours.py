"""Nearest neighbours by cosine similarity. N known features, Q queries, D width, k neighbours, K classes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import normalize

CHUNK = 2**24  # similarities held at a time


def vote(
    known: Tensor,
    labels: Tensor,
    queries: Tensor,
    num_classes: int,
    count: int,
    temperature: float,
    *,
    leave_one_out: bool = False,
) -> Tensor:
    """The weighted vote of each query's nearest neighbours (Wu et al. 2018, section 3.4): (Q, K), rows sum to 1.

    Args:
        known: (N, D); labels: int64 (N,); queries: (Q, D).
        count: neighbours that vote, each with exp(similarity / temperature).
        leave_one_out: the queries are the known features, and none votes for itself.
    """
    similarity, index = nearest(known, queries, count, leave_one_out=leave_one_out)
    return weighted_vote(similarity, labels[index], num_classes, temperature)


def nearest(known: Tensor, queries: Tensor, count: int, *, leave_one_out: bool = False) -> tuple[Tensor, Tensor]:
    """Similarity and place (int64) of each query's ``count`` nearest known features, the nearest first: (Q, k) each.

    Args:
        known, queries, leave_one_out: as for :func:`vote`; left out, a feature is last and its similarity -∞.
    """
    known, queries = normalize(known.float(), dim=1), normalize(queries.float(), dim=1)
    step = max(1, CHUNK // len(known))
    found = []
    for start, chunk in zip(range(0, len(queries), step), queries.split(step), strict=True):
        similarity = chunk @ known.T
        if leave_one_out:
            rows = torch.arange(len(chunk), device=chunk.device)
            similarity[rows, start + rows] = -torch.inf
        found.append(similarity.topk(min(count, len(known)), dim=1))
    return torch.cat([values for values, _ in found]), torch.cat([index for _, index in found])


def weighted_vote(similarity: Tensor, labels: Tensor, num_classes: int, temperature: float) -> Tensor:
    """Votes of neighbours, weighted by exp(similarity / temperature): (Q, K), rows sum to 1.

    Args:
        similarity: (Q, k); labels: int64 (Q, k), the neighbours' own.
    """
    weights = torch.softmax(similarity / temperature, dim=1)
    return weights.new_zeros(len(weights), num_classes).scatter_add_(1, labels, weights)
