from __future__ import annotations

import torch
from torchvision.ops import nms

from vitrail.ops.detections import Ranking, ranked


def outputs(num_queries=40, num_classes=3):
    generator = torch.Generator().manual_seed(0)
    start = torch.rand(num_queries, 2, generator=generator) * 20
    boxes = torch.cat((start, start + 5 + torch.rand(num_queries, 2, generator=generator) * 5), dim=1)
    return torch.cat((torch.rand(num_queries, num_classes, generator=generator), boxes), dim=1)


def test_suppression_is_class_by_class():
    """As torchvision's for each class by itself; the best come first."""
    rows = outputs()
    found = ranked(rows, Ranking(suppress=0.5, max_detections=1000))
    expected = {(int(query), label) for label in range(3) for query in nms(rows[:, -4:], rows[:, label], 0.5)}
    assert set(zip(found.query.tolist(), found.labels.tolist(), strict=True)) == expected
    assert len(found.query) < rows.shape[0] * 3
    assert found.scores.tolist() == sorted(found.scores.tolist(), reverse=True)


def test_suppression_comes_before_the_number_of_detections():
    """Doubles do not take the places of others."""
    rows = outputs()
    all_, some = (ranked(rows, Ranking(suppress=0.5, max_detections=count)) for count in (1000, 7))
    assert torch.equal(some.query, all_.query[:7])


def test_without_overlap_nothing_is_suppressed():
    """Boxes far apart."""
    rows = outputs(5)
    rows[:, -4:] += 100 * torch.arange(5)[:, None]
    whole, kept = (ranked(rows, Ranking(suppress=value)) for value in (None, 0.1))
    assert all(torch.equal(a, b) for a, b in zip(whole, kept, strict=True))
