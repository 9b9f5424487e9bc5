from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from vitrail.data.objects import Objects
from vitrail.metrics.detection import Metrics, match
from vitrail.ops.boxes import cxcywh_to_xyxy, iou, xyxy_to_xywh
from vitrail.ops.detections import Detections, Ranking, ranked

NAMES = ("ant", "bee", "cat", "never")
ONE_CLASS = Ranking(exclusive=True)


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
        targets.append(Objects(boxes, labels, crowd, (200, 200)))
    return torch.stack(outputs), targets


@pytest.mark.parametrize("areas", [False, True])
@pytest.mark.parametrize("ranking", [Ranking(), ONE_CLASS], ids=["each class", "one class"])
@pytest.mark.parametrize("crowds", [False, True])
def test_coco_numbers_are_those_of_pycocotools(crowds, ranking, areas, capsys):
    coco, cocoeval = pytest.importorskip("pycocotools.coco"), pytest.importorskip("pycocotools.cocoeval")
    outputs, targets = scenes(40, crowds=crowds)
    if areas:  # of masks, which cover a part of their boxes: large boxes of medium objects, medium ones of small
        targets = [replace(t, annotated_areas=t.areas * torch.rand(len(t)) ** 2) for t in targets]
    family = Metrics(NAMES, ranking)
    for start in range(0, len(outputs), 5):
        family.update(outputs[start : start + 5], targets[start : start + 5])
    own = family.compute()
    truth = coco.COCO()
    annotations = [
        {"image_id": i, "category_id": int(c), "bbox": b, "area": a, "iscrowd": int(w)}
        for i, t in enumerate(targets)
        for c, b, a, w in zip(t.labels, xyxy_to_xywh(t.boxes_xyxy).tolist(), t.areas.tolist(), t.crowd, strict=True)
    ]
    truth.dataset = {
        "info": {},
        "images": [{"id": i} for i in range(len(targets))],
        "categories": [{"id": i} for i in range(len(NAMES))],
        "annotations": [a | {"id": n} for n, a in enumerate(annotations, start=1)],
    }
    truth.createIndex()
    results = [
        {"image_id": i, "category_id": label, "score": score, "bbox": xyxy_to_xywh(row[-4:]).tolist()}
        for i, image in enumerate(outputs) for row in image for label, score in enumerate(row[:-4].tolist())
        if not ranking.exclusive or score == row[:-4].max()
    ]  # fmt: skip
    reference = cocoeval.COCOeval(truth, truth.loadRes(results), "bbox")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    names = ("ap", "ap50", "ap75", "ap_small", "ap_medium", "ap_large", "ar1", "ar10", "ar100")
    for name, expected in zip(names, reference.stats, strict=False):
        assert own[name] == pytest.approx(expected, abs=1e-9) or (expected == -1 and math.isnan(own[name])), name
    assert 0.05 < own["ap50"] < 0.95


def test_a_picture_of_many_objects_is_measured_by_all_that_is_found():
    """Of 150 objects, each found: COCO's 100 would leave a third out of the precision; its recall of 100 does."""
    boxes = torch.arange(150.0)[:, None] * 10 + torch.tensor([0, 0, 8, 8])
    family = Metrics(NAMES)
    found = Detections(torch.zeros(150, dtype=torch.int64), torch.linspace(1, 0.1, 150), boxes, torch.arange(150))
    family.update([found], [Objects(boxes, found.labels, torch.zeros(150, dtype=torch.bool), (1500, 1500))])
    numbers = family.compute()
    assert (numbers["ap"], numbers["ap50"], numbers["map_voc"]) == pytest.approx((1, 1, 1))
    assert (numbers["ar10"], numbers["ar100"]) == pytest.approx((10 / 150, 100 / 150))


def test_detections_are_those_of_transformers():
    from transformers import DeformableDetrImageProcessor
    from transformers.models.deformable_detr.modeling_deformable_detr import DeformableDetrObjectDetectionOutput

    logits, boxes, size = torch.randn(1, 50, 20) * 2, torch.rand(1, 50, 4), (90, 120)
    outputs = DeformableDetrObjectDetectionOutput(logits=logits, pred_boxes=boxes)
    (theirs,) = DeformableDetrImageProcessor().post_process_object_detection(outputs, 0.7, [size], top_k=100)
    scale = torch.tensor([size[1], size[0]] * 2)
    rows = torch.cat((logits[0].sigmoid(), cxcywh_to_xyxy(boxes[0]) * scale), dim=1)
    found = ranked(rows, Ranking()).over(0.7)
    assert 50 < len(theirs["labels"]) <= 100
    assert torch.equal(found.labels, theirs["labels"])
    torch.testing.assert_close(found.scores, theirs["scores"])
    torch.testing.assert_close(found.boxes_xyxy, theirs["boxes"])
    assert torch.equal(rows[found.query, found.labels], found.scores)
    softmax = torch.randn(50, 21).softmax(dim=1)[:, :-1]
    alone = ranked(torch.cat((softmax, rows[:, -4:]), dim=1), Ranking(exclusive=True, max_detections=10))
    assert torch.equal(alone.query, softmax.amax(dim=1).argsort(descending=True)[:10])  # DETR's
    assert torch.equal(alone.labels, softmax[alone.query].argmax(dim=1))


def test_confusable_classes_of_one_query_all_count():
    """Each query sees its object, and is torn between two classes: with its best one alone half of them are lost."""
    num_images, num_classes = 200, 4
    outputs, targets = torch.zeros(num_images, 2, num_classes + 4), []
    for row in outputs:
        labels, others = torch.randint(num_classes, (2,)), torch.randint(1, num_classes, (2,))
        row[:, -4:] = torch.tensor([[0, 0, 50, 50], [60, 60, 99, 99]])
        first, second = 0.5 + torch.rand(2, 2) * 0.1
        row[range(2), labels], row[range(2), (labels + others) % num_classes] = first, second
        targets.append(Objects(row[:, -4:], labels, torch.zeros(2, dtype=torch.bool), (100, 100)))
    each, one = Metrics(NAMES), Metrics(NAMES, ONE_CLASS)
    for family in (each, one):
        family.update(outputs, targets)
    assert each.compute()["ar100"] == 1
    assert one.compute()["ar100"] < 0.7
    assert each.compute()["ap"] > one.compute()["ap"] + 0.1


def test_voc_curves_are_the_definition():
    outputs, targets = scenes(30)
    family = Metrics(NAMES, ONE_CLASS)
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
    true = Objects(
        boxes_xyxy=torch.tensor([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60.0]]),
        labels=torch.tensor([0, 0, 1]),
        crowd=torch.tensor([False, False, True]),
        size=(100, 100),
    )
    matched = match(ranked(outputs, ONE_CLASS), true)
    assert matched.found.tolist() == [0, -1, -1, -2]
    assert matched.missed.tolist() == [1]


def test_what_does_not_count_is_what_pycocotools_and_voc_say():
    """Objects apart from each other, of which some are crowds, and detections of them, twice, and around them."""
    cocoeval = pytest.importorskip("pycocotools.cocoeval")
    mask = pytest.importorskip("pycocotools.mask")
    uncounted = 0
    for _ in range(60):
        corners = torch.tensor([[x, y] for x in (0, 100, 200) for y in (0, 100)]) + torch.rand(6, 2) * 30
        boxes = torch.cat((corners, corners + 30 + torch.rand(6, 2) * 30), dim=1)
        labels, crowd = torch.randint(2, (6,)), torch.rand(6) < 0.4
        start = boxes.repeat(3, 1)[:, :2] + torch.randn(18, 2) * 15
        near = torch.cat((start, start + 5 + torch.rand(18, 2) * 60), dim=1)
        near[:6] = boxes + torch.randn(6, 4)
        scores = torch.rand(18, 2)
        found = ranked(torch.cat((scores, near), dim=1), ONE_CLASS)
        true = Objects(boxes, labels, crowd, (300, 300))
        ours = match(found, true).found
        for label in range(2):
            rows, own = (found.labels == label).nonzero()[:, 0], (labels == label).nonzero()[:, 0]
            truth = [{"id": int(i) + 1, "ignore": int(crowd[i]), "iscrowd": int(crowd[i]), "area": 1} for i in own]
            said = [{"id": int(i) + 1, "score": float(found.scores[i]), "area": 1} for i in rows]
            if not truth or not said:
                continue
            theirs = cocoeval.COCOeval(iouType="bbox")
            theirs.params.iouThrs = np.array([0.5])
            theirs._gts, theirs._dts = {(0, label): truth}, {(0, label): said}
            overlaps = mask.iou(
                xyxy_to_xywh(found.boxes_xyxy[rows]).double().numpy(),
                xyxy_to_xywh(boxes[own]).double().numpy(),
                [each["iscrowd"] for each in truth],
            )
            theirs.ious = {(0, label): overlaps}
            result = theirs.evaluateImg(0, label, [0, 1e9], 100)
            matched, ignored = result["dtMatches"][0], result["dtIgnore"][0]
            wanted = np.where(ignored, -2, np.where(matched > 0, matched - 1, -1))
            np.testing.assert_array_equal(ours[rows.numpy()], wanted)
            uncounted += int(ignored.sum())
    assert uncounted > 50


def test_a_crowd_takes_what_lies_in_it_and_a_difficult_object_what_overlaps_it():
    small = torch.tensor([[0.9, 0.1, 0, 0, 40, 40, 50, 50], [0.8, 0.1, 0, 0, 0, 0, 100, 90]])
    box, one, none = torch.tensor([[0, 0, 100, 100.0]]), torch.tensor([True]), torch.tensor([False])
    crowd = Objects(box, torch.tensor([0]), one, (100, 100))
    difficult = replace(crowd, crowd=none, difficult=one)
    found = ranked(small, ONE_CLASS)
    assert match(found, crowd).found.tolist() == [-2, -2]
    assert match(found, difficult).found.tolist() == [-1, -2]
    for true in (crowd, difficult):
        assert match(found, true).missed.tolist() == []
        assert true.ignored.tolist() == [True]
        assert match(found, replace(true, labels=torch.tensor([1]))).found.tolist() == [-1, -1]


def test_voc_map_with_difficult_objects_is_the_challenges():
    """The challenge's own loop (VOCdevkit, VOCevaldet.m), for each class."""
    outputs, targets = scenes(40)
    targets = [replace(t, difficult=torch.rand(len(t)) < 0.3) for t in targets]
    family = Metrics(NAMES, ONE_CLASS)
    family.update(outputs, targets)
    for label, curve in enumerate(family.curves()):
        rows = [
            (score, i, box)
            for i, found in enumerate(family.detections)
            for score, own, box in zip(found.scores.tolist(), found.labels.tolist(), found.boxes_xyxy, strict=True)
            if own == label
        ]
        seen, right = set(), []
        for _, i, box in sorted(rows, key=lambda row: -row[0]):
            best, which = -1.0, -1
            for n, (true, own) in enumerate(zip(targets[i].boxes_xyxy, targets[i].labels.tolist(), strict=True)):
                if own == label and (overlap := float(iou(box, true))) > best:
                    best, which = overlap, n
            if best >= 0.5 and targets[i].difficult[which]:
                continue
            hit = best >= 0.5 and (i, which) not in seen
            seen |= {(i, which)} if hit else set()
            right.append(hit)
        assert curve.right.tolist() == right
        assert curve.num_objects == sum(int(((t.labels == label) & ~t.difficult).sum()) for t in targets)


def test_confusion_counts_pairs_misses_and_what_is_not_there():
    outputs = torch.tensor([[
        [0.9, 0.1, 0, 0, 0, 0, 10, 10],  # right
        [0.1, 0.7, 0, 0, 20, 20, 30, 30],  # a 0 taken for a 1
        [0.1, 0.6, 0, 0, 50, 50, 60, 60],  # in a crowd
        [0.8, 0.1, 0, 0, 80, 80, 90, 90],  # nothing
        [0.3, 0.1, 0, 0, 40, 0, 50, 10],  # right, and under the threshold
    ]])  # fmt: skip
    true = Objects(
        boxes_xyxy=torch.tensor([[0, 0, 10, 10], [20, 20, 30, 30], [50, 50, 60, 60], [40, 0, 50, 10.0]]),
        labels=torch.tensor([0, 0, 1, 2]),
        crowd=torch.tensor([False, False, True, False]),
        size=(100, 100),
    )
    family = Metrics(NAMES)
    family.update(outputs, [true])
    expected = np.zeros((len(NAMES) + 1,) * 2, dtype=np.int64)
    expected[0, 0] = expected[0, 1] = expected[2, -1] = expected[-1, 0] = 1
    np.testing.assert_array_equal(family.confusion(0.5), expected)


def test_the_threshold_has_the_best_f1():
    outputs, targets = scenes(8)
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
    nothing.update(outputs[:1], [targets[0].take(torch.zeros(0, dtype=torch.int64))])
    assert all(np.isnan(value) for value in nothing.compute().values())
    assert [row["support"] for row in nothing.details()["classes"]] == [0] * len(NAMES)
