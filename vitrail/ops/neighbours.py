"""Nearest neighbours by cosine similarity. N known features, Q queries, D width, K classes."""

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
    known, queries = normalize(known.float(), dim=1), normalize(queries.float(), dim=1)
    votes = []
    for start, chunk in zip(
        range(0, len(queries), step := max(1, CHUNK // len(known))), queries.split(step), strict=True
    ):
        similarity = chunk @ known.T
        if leave_one_out:
            rows = torch.arange(len(chunk), device=chunk.device)
            similarity[rows, start + rows] = -torch.inf
        nearest, index = similarity.topk(min(count, len(known)), dim=1)
        weights = torch.softmax(nearest / temperature, dim=1)
        votes.append(weights.new_zeros(len(chunk), num_classes).scatter_add_(1, labels[index], weights))
    return torch.cat(votes)
