"""Mask AP against the COCO API, in the pixels of images of their own sizes."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vitrail.data.objects import Objects
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.metrics.instances import Metrics
from vitrail.ops.boxes import of_masks
from vitrail.ops.mask_outputs import pack, unpack

NAMES = ("ant", "bee")
INPUT = (16, 16)
SIZES = [(16, 16), (30, 20), (12, 40)]


def scene(number, size):
    """Rectangles that are there, and logits that show most of them, shifted a little."""
    random = np.random.default_rng(number)
    masks = np.zeros((3, *size), bool)
    for mask in masks:
        top, left = random.integers(0, size[0] - 8), random.integers(0, size[1] - 8)
        mask[top : top + random.integers(4, 9), left : left + random.integers(4, 9)] = True
    true = torch.from_numpy(masks)
    labels = torch.from_numpy(random.integers(0, len(NAMES), 3))
    objects = Objects(of_masks(true), labels, torch.tensor([False, False, number % 2 == 1]), size, number, true)
    geometry = ImageGeometry((0, 0, size[1], size[0]), INPUT, size)
    seen = geometry.maps(true).float()
    logits = torch.roll(seen, int(random.integers(0, 3)), dims=2) - 0.5
    scores = torch.from_numpy(random.random((3, len(NAMES)))).float() / 10
    said = torch.where(torch.from_numpy(random.random(3)) < 0.8, labels, 1 - labels)
    scores[torch.arange(3), said] += torch.from_numpy(random.random(3)).float() * 0.9
    return objects, geometry, torch.cat((scores, geometry.boxes(objects.boxes_xyxy)), dim=1), logits


def test_mask_ap_is_the_coco_apis(capsys):
    scenes = [scene(number, SIZES[number % len(SIZES)]) for number in range(12)]
    targets, geometries = [each[0] for each in scenes], [each[1] for each in scenes]
    outputs = pack(torch.stack([each[2] for each in scenes]), torch.stack([each[3] for each in scenes]))
    family = Metrics(NAMES)
    family.update(family.reduce(outputs, geometries), targets)
    own = family.compute()

    truth, results = COCO(), []
    annotations = []
    for i, objects in enumerate(targets):
        for mask, label, crowd in zip(
            objects.masks.numpy(), objects.labels.tolist(), objects.crowd.tolist(), strict=True
        ):
            shape = coco_mask.encode(np.asfortranarray(mask))
            entry = {"id": len(annotations) + 1, "image_id": i, "category_id": label, "iscrowd": int(crowd)}
            annotations.append(entry | {"segmentation": shape, "area": int(mask.sum()), "bbox": [0, 0, 1, 1]})
    objects, logits = unpack(outputs, len(NAMES) + 4)
    for i, geometry in enumerate(geometries):
        masks = (F.interpolate(logits[i : i + 1], geometry.original, mode="bilinear")[0] > 0).numpy()
        for row, mask in zip(objects[i], masks, strict=True):
            shape = coco_mask.encode(np.asfortranarray(mask))
            for label, score in enumerate(row[:-4].tolist()):
                results.append({"image_id": i, "category_id": label, "score": score, "segmentation": shape})
    images = [{"id": i, "height": each.size[0], "width": each.size[1]} for i, each in enumerate(targets)]
    categories = [{"id": label, "name": name} for label, name in enumerate(NAMES)]
    truth.dataset = {"images": images, "categories": categories, "annotations": annotations, "info": {}}
    truth.createIndex()
    reference = COCOeval(truth, truth.loadRes(results), "segm")
    reference.evaluate()
    reference.accumulate()
    reference.summarize()
    capsys.readouterr()
    for name, expected in zip(("mask_ap", "mask_ap50", "mask_ap75"), reference.stats, strict=False):
        assert own[name] == pytest.approx(expected, abs=1e-9)
    assert 0.1 < own["mask_ap"] < 0.95
    assert own["ap50"] != own["mask_ap50"]


def test_nothing_to_find_is_undefined():
    some, _, objects, logits = scene(0, INPUT)
    empty = some.take(torch.zeros(3, dtype=torch.bool))
    family = Metrics(NAMES)
    family.update(
        family.reduce(pack(objects[None], logits[None]), [ImageGeometry((0, 0, 16, 16), INPUT, INPUT)]), [empty]
    )
    assert math.isnan(family.compute()["mask_ap"])
