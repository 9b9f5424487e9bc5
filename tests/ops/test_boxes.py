from __future__ import annotations

import pytest
import torch
import torchvision.ops as reference

from vitrail.ops import boxes as ours


def random_boxes(count: int) -> torch.Tensor:
    start = torch.rand(count, 2) * 80
    return torch.cat((start, start + torch.rand(count, 2) * 40 + 0.1), dim=1)


@pytest.mark.parametrize("kind", ["cxcywh", "xywh"])
def test_formats_are_torchvisions_and_back(kind):
    boxes = random_boxes(20)
    there = getattr(ours, f"xyxy_to_{kind}")(boxes)
    torch.testing.assert_close(there, reference.box_convert(boxes, "xyxy", kind))
    torch.testing.assert_close(getattr(ours, f"{kind}_to_xyxy")(there), boxes)


@pytest.mark.parametrize(
    ("function", "expected"),
    [(ours.iou, reference.box_iou), (ours.generalised_iou, reference.generalized_box_iou)],
)
def test_overlaps_of_every_pair_are_torchvisions(function, expected):
    a, b = random_boxes(12), random_boxes(9)
    torch.testing.assert_close(function(a[:, None], b), expected(a, b), atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(function(a[:9], b), expected(a, b).diagonal(), atol=1e-6, rtol=1e-5)


def test_area_and_boxes_of_masks_are_torchvisions():
    boxes = random_boxes(7)
    torch.testing.assert_close(ours.area(boxes), reference.box_area(boxes))
    masks = torch.rand(6, 11, 17) > 0.97
    masks[torch.arange(6), torch.randint(11, (6,)), torch.randint(17, (6,))] = True
    exclusive = reference.masks_to_boxes(masks) + torch.tensor([0, 0, 1, 1])  # torchvision's end is the last pixel
    torch.testing.assert_close(ours.of_masks(masks), exclusive)
    assert ours.of_masks(torch.zeros(1, 4, 5, dtype=torch.bool)).tolist() == [[0, 0, 0, 0]]


def test_boxes_without_area_have_no_overlap_and_a_gradient():
    point = torch.tensor([[3.0, 3, 3, 3]], requires_grad=True)
    value = ours.generalised_iou(point, torch.tensor([[5.0, 5, 5, 5]]))
    value.sum().backward()
    assert value.item() == pytest.approx(-1)
    assert point.grad.isfinite().all()
    assert ours.iou(point, point).item() == 0
