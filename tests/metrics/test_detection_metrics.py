from __future__ import annotations

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from vitrail.metrics.detection import Metrics, match
from vitrail.ops.boxes import iou, xyxy_to_xywh
from vitrail.ops.detections import ranked

NAMES = ("ant", "bee", "cat", "never")


def scenes(images=12, queries=8, *, crowds=False):
    """Objects, and detections near some of them."""
    outputs, targets = [], []
    for _ in range(images):
        count = int(torch.randint(0, 5, (1,)))
        start = torch.rand(count, 2) * 90
        boxes = torch.cat((start, start + torch.rand(count, 2) * 60 + 4), dim=1)
        labels = torch.randint(0, 3, (count,))
        near = torch.rand(queries, 2).repeat(1, 2) * 90 + torch.tensor([0, 0, 30, 30.0])
        scores = torch.rand(queries, len(NAMES)) * 0.5
        near[:count] = boxes + torch.randn(count, 4) * 4
        scores[torch.arange(count), labels] += torch.rand(count) * 0.5
        if count > 1:
            near[count] = boxes[0] + torch.randn(4)  # twice the same object
        outputs.append(torch.cat((scores, near), dim=1))
        crowd = torch.rand(count) < 0.3 if crowds else torch.zeros(count, dtype=torch.bool)
        targets.append(SimpleNamespace(boxes_xyxy=boxes, labels=labels, crowd=crowd))
    return torch.stack(outputs), targets


@pytest.mark.parametrize("crowds", [False, True])
def test_coco_numbers_are_those_of_pycocotools(crowds, capsys):
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    outputs, targets = scenes(crowds=crowds)
    family = Metrics(NAMES)
    for start in range(0, len(outputs), 5):
        family.update(outputs[start : start + 5], targets[start : start + 5])
    own = family.compute()
    truth = coco.COCO()
    annotations = [
        {"image_id": i, "category_id": int(c), "bbox": b, "area": b[2] * b[3], "iscrowd": int(w)}
        for i, t in enumerate(targets)
        for c, b, w in zip(t.labels, xyxy_to_xywh(t.boxes_xyxy).tolist(), t.crowd, strict=True)
    ]
    truth.dataset = {
        "images": [{"id": i} for i in range(len(targets))],
        "categories": [{"id": i} for i in range(len(NAMES))],
        "annotations": [a | {"id": n} for n, a in enumerate(annotations, start=1)],
    }
    truth.createIndex()
    results = [
        {"image_id": i, "category_id": int(row[:-4].argmax()), "score": float(row[:-4].max()),
         "bbox": xyxy_to_xywh(row[-4:]).tolist()}
        for i, image in enumerate(outputs) for row in image
    ]  # fmt: skip
    reference = cocoeval.COCOeval(truth, truth.loadRes([dict(r, info={}) for r in results]), "bbox")
    truth.dataset.setdefault("info", {})
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
    for name, expected in zip(names, reference.stats, strict=False):
        assert own[name] == pytest.approx(expected, abs=1e-9) or (expected == -1 and math.isnan(own[name])), name
    assert 0.05 < own["ap50"] < 0.95


def test_voc_curves_are_the_definition():
    outputs, targets = scenes(30)
    family = Metrics(NAMES)
    family.update(outputs, targets)
    for label, curve in enumerate(family.curves()):
        rows = sorted(
            ((float(row[:-4].max()), i, row[-4:]) for i, image in enumerate(outputs) for row in image
             if int(row[:-4].argmax()) == label),
            key=lambda each: -each[0],
        )  # fmt: skip
        seen, hits = set(), []
        for _, i, box in rows:
            own = [
                (float(iou(box, b)), n) for n, b in enumerate(targets[i].boxes_xyxy) if targets[i].labels[n] == label
            ]
            overlap, which = max(own, default=(0.0, -1))
            hits.append(overlap >= 0.5 and (i, which) not in seen)
            if hits[-1]:
                seen.add((i, which))
        total = sum(int((t.labels == label).sum()) for t in targets)
        area, best = 0.0, 0.0
        for n in range(len(hits), 0, -1):
            best = max(best, sum(hits[:n]) / n)
            area += best * hits[n - 1] / max(total, 1)
        assert curve.num_objects == total
        if total:
            assert curve.average_precision == pytest.approx(area)
            assert curve.recall[-1] == pytest.approx(len(seen) / total)
        else:
            assert math.isnan(curve.average_precision)
    assert family.compute()["map_voc"] == pytest.approx(family.compute()["ap50"], abs=0.03)  # 101 points, not all


def test_what_was_found_and_what_was_missed():
    outputs = torch.tensor([
        [0.9, 0.1, 0, 0, 0, 0, 10, 10],
        [0.8, 0.1, 0, 0, 0, 0, 9, 10],  # the same again
        [0.1, 0.7, 0, 0, 0, 0, 10, 10],  # another class
        [0.1, 0.6, 0, 0, 50, 50, 60, 60],  # in a crowd
    ])  # fmt: skip
    true = SimpleNamespace(
        boxes_xyxy=torch.tensor([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60.0]]),
        labels=torch.tensor([0, 0, 1]),
        crowd=torch.tensor([False, False, True]),
    )
    matched = match(ranked(outputs), true)
    assert matched.found.tolist() == [0, -1, -1, -2]
    assert matched.missed.tolist() == [1]


def test_confusion_counts_pairs_misses_and_what_is_not_there():
    outputs = torch.tensor([[
        [0.9, 0.1, 0, 0, 0, 0, 10, 10],  # right
        [0.1, 0.7, 0, 0, 20, 20, 30, 30],  # a 0 taken for a 1
        [0.1, 0.6, 0, 0, 50, 50, 60, 60],  # in a crowd
        [0.8, 0.1, 0, 0, 80, 80, 90, 90],  # nothing
        [0.3, 0.1, 0, 0, 40, 0, 50, 10],  # right, and under the threshold
    ]])  # fmt: skip
    true = SimpleNamespace(
        boxes_xyxy=torch.tensor([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60], [40, 0, 50, 10.0]]),
        labels=torch.tensor([0, 0, 1, 2]),
        crowd=torch.tensor([False, False, True, False]),
    )
    family = Metrics(NAMES)
    family.update(outputs, [true])
    expected = np.zeros((len(NAMES) + 1,) * 2, dtype=np.int64)
    expected[0, 0] = expected[0, 1] = expected[2, -1] = expected[-1, 0] = 1
    np.testing.assert_array_equal(family.confusion(0.5), expected)


def test_the_threshold_has_the_best_f1():
    outputs, targets = scenes(30)
    family = Metrics(NAMES)
    family.update(outputs, targets)

    def f1(threshold):
        fates = [match(found.over(threshold), true) for found, true in zip(family.detections, targets, strict=True)]
        hits = sum(int((each.found >= 0).sum()) for each in fates)
        wrong, missed = (sum(int(count(each)) for each in fates) for count in (
            lambda each: (each.found == -1).sum(), lambda each: len(each.missed)))  # fmt: skip
        return 2 * hits / (2 * hits + wrong + missed)

    best = family.details()["threshold"]
    scores = torch.cat([found.scores for found in family.detections]).tolist()
    assert f1(best) == pytest.approx(max(map(f1, scores)))
    for row, curve in zip(family.details()["classes"], family.curves(), strict=True):
        kept = curve.scores >= best
        if kept.any():
            assert row["precision"] == pytest.approx(curve.right[kept].mean())


def test_perfect_outputs_score_one_and_nothing_to_find_is_undefined():
    _, targets = scenes(6)
    targets = [t for t in targets if len(t.labels)]
    outputs = torch.zeros(len(targets), 5, len(NAMES) + 4)
    for row, t in zip(outputs, targets, strict=True):
        row[torch.arange(len(t.labels)), t.labels] = 0.9
        row[: len(t.labels), -4:] = t.boxes_xyxy
    family = Metrics(NAMES)
    family.update(outputs, targets)
    found = family.compute()
    assert found["ap"] == found["map_voc"] == pytest.approx(1)
    nothing = Metrics(NAMES)
    empty = SimpleNamespace(
        boxes_xyxy=torch.zeros(0, 4), labels=torch.zeros(0, dtype=torch.int64), crowd=torch.zeros(0)
    )
    nothing.update(outputs[:1], [empty])
    assert all(np.isnan(value) for value in nothing.compute().values())
    assert [row["support"] for row in nothing.details()["classes"]] == [0] * len(NAMES)
