"""The assignment of cells against one written object by object, cell by cell."""

from __future__ import annotations

import pytest
import torch
from torchvision.ops import box_convert, box_iou

from vitrail.ops.dense_assignment import assign
from vitrail.ops.set_losses import Truth


def grid(rows, columns):
    y, x = torch.meshgrid((torch.arange(rows) + 0.5) / rows, (torch.arange(columns) + 0.5) / columns, indexing="ij")
    size = torch.tensor([1 / columns, 1 / rows]).expand(rows * columns, 2)
    return torch.cat((torch.stack((x, y), dim=-1).flatten(0, 1), size), dim=1)


def one_by_one(scores, predicted, anchors, labels, boxes, per_object):
    """{cell: (object, quality)} of one image."""
    overlap = box_iou(box_convert(predicted, "cxcywh", "xyxy"), box_convert(boxes, "cxcywh", "xyxy"))
    chosen = {}
    for number, (label, (x, y, w, h)) in enumerate(zip(labels.tolist(), boxes.tolist(), strict=True)):
        candidates = [
            cell
            for cell, (cx, cy, cw, ch) in enumerate(anchors.tolist())
            if abs(cx - x) <= max(w / 2, cw) and abs(cy - y) <= max(h / 2, ch)
        ]
        fit = {cell: float(scores[cell, label] * overlap[cell, number] ** 6) for cell in candidates}
        for cell in sorted(fit, key=fit.__getitem__, reverse=True)[:per_object]:
            if cell not in chosen or overlap[cell, number] > overlap[cell, chosen[cell][0]]:
                chosen[cell] = number, fit[cell]
    result = {}
    for cell, (number, fit) in chosen.items():
        own = [other for other, (its, _) in chosen.items() if its == number]
        best = max(chosen[other][1] for other in own)
        result[cell] = number, (fit / best if best else 0.0) * float(max(overlap[other, number] for other in own))
    return result


@pytest.mark.parametrize(("counts", "per_object"), [((0, 0), 3), ((3, 0, 7), 4), ((1, 12), 1), ((2, 2), 100)])
def test_as_assigned_object_by_object(counts, per_object):
    generator = torch.Generator().manual_seed(sum(counts))
    anchors = grid(6, 8).expand(len(counts), -1, -1)
    centres = torch.rand(sum(counts), 2, generator=generator)
    boxes = torch.cat((centres, 0.02 + 0.5 * torch.rand(sum(counts), 2, generator=generator) ** 2), dim=1)
    truth = Truth(torch.randint(3, (sum(counts),), generator=generator), boxes, counts)
    scores = torch.rand(len(counts), 48, 3, generator=generator)
    moved = 0.1 * torch.randn(anchors.shape, generator=generator)
    predicted = torch.cat((anchors[..., :2] + moved[..., :2], 0.2 + moved[..., 2:].abs()), dim=-1)
    pairs, quality = assign(scores, predicted, anchors, truth, per_object)
    found = {
        (image, cell): (target, value)
        for image, cell, target, value in zip(
            pairs.image.tolist(), pairs.query.tolist(), pairs.target.tolist(), quality.tolist(), strict=True
        )
    }
    expected, first = {}, 0
    for image, count in enumerate(counts):
        rows = slice(first, first + count)
        own = one_by_one(scores[image], predicted[image], anchors[image], truth.labels[rows], boxes[rows], per_object)
        expected |= {(image, cell): (first + number, value) for cell, (number, value) in own.items()}
        first += count
    assert {place: target for place, (target, _) in found.items()} == {
        place: target for place, (target, _) in expected.items()
    }
    for place, (_, value) in expected.items():
        assert found[place][1] == pytest.approx(value, rel=1e-4, abs=1e-7)


def test_an_object_smaller_than_a_cell_has_cells():
    """No centre of a cell lies in it."""
    anchors = grid(4, 4)[None]
    truth = Truth(torch.tensor([0]), torch.tensor([[0.5, 0.5, 0.01, 0.01]]), (1,))
    pairs, quality = assign(torch.full((1, 16, 1), 0.5), anchors, anchors, truth, 9)
    assert sorted(pairs.query.tolist()) == [5, 6, 9, 10]
    assert (quality >= 0).all()
