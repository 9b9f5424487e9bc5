from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import KNeighborsClassifier

from vitrail.ops import neighbours
from vitrail.ops.neighbours import nearest, vote

NUM_CLASSES = 5


def drawn(num: int = 70, dim: int = 6) -> tuple[torch.Tensor, torch.Tensor]:
    """Features of any length, and labels of which every class has some."""
    labels = torch.arange(num) % NUM_CLASSES
    centres = torch.randn(NUM_CLASSES, dim)
    return (centres[labels] + torch.randn(num, dim)) * torch.rand(num, 1).add(0.1) * 10, labels


def naive(known, labels, queries, count, temperature, leave_one_out=False):
    """One query at a time."""
    votes = []
    for i, query in enumerate(queries):
        others = [j for j in range(len(known)) if not (leave_one_out and j == i)]
        cosine = {j: float(torch.cosine_similarity(query, known[j], dim=0)) for j in others}
        closest = sorted(others, key=lambda j: -cosine[j])[:count]
        row = np.zeros(NUM_CLASSES)
        for j in closest:
            row[labels[j]] += np.exp(cosine[j] / temperature)
        votes.append(row / row.sum())
    return np.stack(votes)


@pytest.mark.parametrize("count", [1, 7, 70])
@pytest.mark.parametrize("temperature", [0.07, 1e6])
def test_the_vote_is_scikit_learns(count, temperature):
    (known, labels), queries = drawn(), drawn(33)[0]
    weights = "uniform" if temperature > 1 else lambda distance: np.exp((1 - distance) / temperature)
    reference = KNeighborsClassifier(count, weights=weights, metric="cosine", algorithm="brute")
    expected = reference.fit(known.double().numpy(), labels.numpy()).predict_proba(queries.double().numpy())
    votes = vote(known, labels, queries, NUM_CLASSES, count, temperature)
    np.testing.assert_allclose(votes, expected, atol=1e-4)


@pytest.mark.parametrize("leave_one_out", [False, True])
@pytest.mark.parametrize("chunk", [2**24, 150, 1])
def test_the_vote_is_a_naive_loops_however_it_is_chunked(monkeypatch, chunk, leave_one_out):
    monkeypatch.setattr(neighbours, "CHUNK", chunk)
    known, labels = drawn()
    queries = known if leave_one_out else drawn(23)[0]
    votes = vote(known, labels, queries, NUM_CLASSES, 9, 0.07, leave_one_out=leave_one_out)
    np.testing.assert_allclose(votes, naive(known, labels, queries, 9, 0.07, leave_one_out), atol=1e-4)


def test_more_neighbours_than_there_are():
    known, labels = drawn(11)
    votes = vote(known, labels, known, NUM_CLASSES, 500, 0.5, leave_one_out=True)
    np.testing.assert_allclose(votes, naive(known, labels, known, 10, 0.5, leave_one_out=True), atol=1e-4)


def test_the_nearest_come_in_order():
    known, queries = drawn()[0], drawn(8)[0]
    similarity, index = nearest(known, queries, 12)
    cosine = torch.cosine_similarity(queries[:, None], known[None], dim=-1)
    torch.testing.assert_close(similarity, cosine.sort(dim=1, descending=True).values[:, :12])
    torch.testing.assert_close(similarity, cosine.gather(1, index))
