"""Turned images, with their targets."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as moves
from torchvision.tv_tensors import BoundingBoxes

from vitrail.data.objects import Objects
from vitrail.data.targets import load
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.rotate import around_ellipses
from vitrail.data.transforms.scene import SceneAugment
from vitrail.data.transforms.scene_config import SceneAugmentConfig

HEIGHT, WIDTH = 60, 84
ELLIPSES = [(30, 22, 20, 9), (60, 40, 6, 14)]  # centre and half axes, x before y


def ellipses():
    """An image, masks and boxes of two ellipses."""
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    masks = np.stack([((columns - x) / a) ** 2 + ((rows - y) / b) ** 2 <= 1 for x, y, a, b in ELLIPSES])
    image = Image.fromarray((masks.any(0) * 255).astype(np.uint8)).convert("RGB")
    boxes = torch.tensor([[x - a, y - b, x + a, y + b] for x, y, a, b in ELLIPSES], dtype=torch.float32)
    return image, torch.from_numpy(masks), boxes


def made(kind, target, **settings):
    config = SceneAugmentConfig(rotate=40, **settings)
    image, _, _ = ellipses()
    return [
        SceneAugment(config, PreprocessConfig(size=(HEIGHT, WIDTH), resize="square"), load(kind)).scene(
            image, target, key
        )
        for key in range(8)
    ]


def objects(masks=None):
    _, _, boxes = ellipses()
    return Objects(boxes, torch.tensor([0, 1]), torch.zeros(2, dtype=torch.bool), (HEIGHT, WIDTH), masks=masks)


@pytest.mark.parametrize("degrees", [0, 17, -63, 90, 180])
def test_boxes_are_around_the_turned_ellipses(degrees):
    """The centres are where torchvision's are; the sides enclose points of each ellipse, and no more."""
    _, _, boxes = ellipses()
    found = around_ellipses(boxes, degrees, (HEIGHT, WIDTH))
    theirs = moves.rotate(BoundingBoxes(boxes, format="XYXY", canvas_size=(HEIGHT, WIDTH), clamping_mode=None), degrees)
    torch.testing.assert_close(found[:, :2] + found[:, 2:], torch.Tensor(theirs)[:, :2] + torch.Tensor(theirs)[:, 2:])
    angle, turn = torch.linspace(0, 2 * math.pi, 2001), math.radians(degrees)
    for (_, _, a, b), box in zip(ELLIPSES, found, strict=True):
        x, y = a * angle.cos(), b * angle.sin()
        width = 2 * (math.cos(turn) * x + math.sin(turn) * y).amax()
        height = 2 * (math.cos(turn) * y - math.sin(turn) * x).amax()
        torch.testing.assert_close(box[2:] - box[:2], torch.stack((width, height)), atol=0.01, rtol=0)


def test_maps_masks_and_pixels_turn_together():
    _, masks, _ = ellipses()
    for scene in made("semantic", masks.any(0).to(torch.uint8)):
        assert torch.equal(scene.target == 255, scene.padding)
        bright = scene.pixels[0] > 127
        assert ((bright == (scene.target == 1)) | scene.padding).float().mean() > 0.985
    for scene in made("masks", objects(masks)):
        for mask, box in zip(scene.target.masks, scene.target.boxes_xyxy, strict=True):
            rows, columns = mask.nonzero().unbind(1)
            assert box.tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
    for scene in made("boxes", objects()):
        assert all(0 <= value <= WIDTH for value in scene.target.boxes_xyxy.flatten().tolist())
    angles = {tuple(scene.target.boxes_xyxy.flatten().tolist()) for scene in made("boxes", objects())}
    assert len(angles) == 8


def test_what_is_not_scaled_is_not_turned():
    _, masks, _ = ellipses()
    target = masks.any(0).to(torch.uint8)
    for scene in made("semantic", target, scale=(0.5, 0.6), scale_probability=0.0):
        assert torch.equal(scene.target, target)
        assert not scene.padding.any()
