from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from transformers.models.mask2former.modeling_mask2former import (
    pair_wise_dice_loss,
    pair_wise_sigmoid_cross_entropy_loss,
    sample_point,
)

from vitrail.data.drawing import colour
from vitrail.data.objects import Objects
from vitrail.nn.detr_decoder import DecoderConfig
from vitrail.nn.mask_head import MaskConfig
from vitrail.nn.mask_supervision import MaskLossConfig
from vitrail.ops import rle
from vitrail.ops.boxes import of_masks
from vitrail.ops.mask_losses import mask_cross_entropy
from vitrail.ops.mask_outputs import unpack
from vitrail.ops.matching import Pairs
from vitrail.tasks.instances import WEIGHT, Config, Prediction, Task, _points, masks_of
from vitrail.vit import ViTConfig

NAMES = ("ant", "bee", "cat")
MODEL = {"image_size": 32, "patch_size": 8, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48, "positions": "sincos_2d"}
DECODER = DecoderConfig(dim=16, depth=2, heads=2, mlp_dim=32, num_queries=6)


def build(**options):
    masks = MaskConfig(stride=4, dim=16)
    task = Task(Config(model=ViTConfig(**MODEL), classes=NAMES, decoder=DECODER, masks=masks, **options)).eval()
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task


def objects(count, crowd=()):
    masks = torch.zeros(count, 32, 32, dtype=torch.bool)
    for mask in masks:
        top, left = torch.randint(0, 24, (2,)).tolist()
        mask[top : top + 8, left : left + 7] = True
    flags = torch.zeros(count, dtype=torch.bool)
    flags[list(crowd)] = True
    return Objects(of_masks(masks), torch.randint(3, (count,)), flags, (32, 32), 0, masks)


def test_masks_come_with_the_boxes_of_detection():
    task = build(threshold=0.01)
    images = torch.randn(2, 3, 32, 32)
    found, masks = unpack(task(images), len(NAMES) + 4)
    assert masks.shape == (2, 6, 8, 8)
    said = task.predict(images)[0]
    query = found[0, :, :3].flatten().argsort(descending=True) // 3  # every class of every query
    np.testing.assert_allclose(said.boxes_xyxy, found[0, query, -4:].clamp(0, 32).detach().numpy(), atol=1e-4)
    large = torch.nn.functional.interpolate(masks[:1, query], (32, 32), mode="bilinear")[0]
    np.testing.assert_array_equal(said.masks, (large > 0).numpy())
    assert task.predict(torch.randn(1, 3, 16, 24))[0].masks.shape[1:] == (16, 24)


def test_a_batch_of_padded_images_gives_what_they_give_alone():
    task = build()
    image = torch.randn(1, 3, 16, 24)
    canvas, padding = torch.randn(1, 3, 32, 32), torch.ones(1, 32, 32, dtype=torch.bool)
    canvas[:, :, :16, :24], padding[:, :16, :24] = image, False
    alone, together = (unpack(each, len(NAMES) + 4) for each in (task(image), task(canvas, padding)))
    torch.testing.assert_close(together[0], alone[0], atol=2e-4, rtol=1e-3)
    # the last cells blend with what the tokens of padding say, when those are enlarged
    torch.testing.assert_close(together[1][..., :2, :4], alone[1][..., :2, :4], atol=2e-3, rtol=1e-2)


def test_the_masks_loss_is_that_of_the_matched_queries():
    task = build()
    targets = [objects(3, crowd=[1]), objects(0), objects(2)]
    seen = task._encode(torch.randn(3, 3, 32, 32), None)
    kept = masks_of(targets, seen.region)
    assert torch.equal(kept, torch.cat((targets[0].masks[[0, 2]], targets[2].masks)))
    x = torch.randn(3, 6, 16)
    pairs = Pairs(torch.tensor([0, 0, 2, 2]), torch.tensor([4, 1, 0, 5]), torch.tensor([1, 0, 2, 3]))
    masks = task._further(seen, {"images": seen.images, "targets": targets})
    assert masks.costs([x]) == []
    losses = masks.losses([torch.randn(3, 6, 16), x], [pairs, pairs], torch.tensor(4))
    logits = task.masks(x, seen.images, seen.features.map, None)[pairs.image, pairs.query]
    shares = kept[pairs.target].float().unflatten(1, (8, 4)).unflatten(3, (8, 4)).mean(dim=(2, 4))
    torch.testing.assert_close(losses["mask"], WEIGHT * mask_cross_entropy(logits, shares, torch.tensor(4)))


def test_every_loss_reaches_its_parameters():
    task = build(denoising=None)
    losses = task.loss({"images": torch.randn(3, 3, 32, 32), "targets": [objects(2), objects(0), objects(3)]})
    assert set(losses) == {"loss", "label", "l1", "giou", "mask", "dice", "proposed"}
    losses["loss"].backward()
    assert [n for n, p in task.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []
    nothing = task.loss({"images": torch.randn(1, 3, 32, 32), "targets": [objects(0)]})
    assert nothing["mask"] == nothing["dice"] == 0


ALL = MaskLossConfig(in_matching=True, every_layer=True)


@pytest.mark.parametrize("points", [None, 16])
def test_masks_of_every_layer_learn_and_count_in_the_matching(points):
    task = build(denoising=None, mask_losses=replace(ALL, points=points))
    targets = [objects(3), objects(0), replace(objects(2), outlined=torch.tensor([True, False]))]
    batch = {"images": torch.randn(3, 3, 32, 32), "targets": targets, "keys": torch.arange(3)}
    task.loss(batch)["loss"].backward()
    assert [n for n, p in task.named_parameters() if p.grad is None or p.grad.abs().sum() == 0] == []
    seen, layers = task._encode(batch["images"], None), [torch.randn(3, 6, 16) for _ in range(2)]
    masks = task._further(seen, batch)
    costs = masks.costs(layers)
    assert [cost.shape for cost in costs] == [(3, 6, 3)] * 2
    assert costs[0][2, :, 0].abs().min() > 0
    assert not costs[0][2, :, 1].any(), "of no known outline"
    pairs = [Pairs(torch.tensor([0, 2]), torch.tensor([4, place]), torch.tensor([1, 3])) for place in (0, 1)]
    total = masks.losses(layers, pairs, torch.tensor(5))
    alone = [masks.losses(layers[i : i + 1], pairs[i : i + 1], torch.tensor(5)) for i in range(2)]
    for name, value in total.items():
        torch.testing.assert_close(value, alone[0][name] + alone[1][name])


def test_the_masks_cost_is_that_of_mask2former():
    task, targets = build(mask_losses=replace(ALL, points=16)), [objects(3), objects(1)]
    batch = {"images": torch.randn(2, 3, 32, 32), "targets": targets, "keys": torch.arange(2)}
    seen, x = task._encode(batch["images"], None), torch.randn(2, 6, 16)
    masks = task._further(seen, batch)
    logits = task.masks(x, seen.images, seen.features.map, None)
    points = _points(16, batch, seen.region)
    for image, target in enumerate(targets):
        own, true = (
            sample_point(each[:, None].float(), points[image].expand(len(each), -1, -1), align_corners=False)[:, 0]
            for each in (logits[image], target.masks)
        )
        expected = pair_wise_sigmoid_cross_entropy_loss(own, true) + pair_wise_dice_loss(own, true)
        found = masks.costs([x])[0][image, :, : len(target)]
        torch.testing.assert_close(found, WEIGHT * expected, atol=1e-4, rtol=1e-4)


def prediction():
    masks = np.zeros((2, 16, 16), bool)
    masks[0, 2:9, 3:12] = masks[1, 10:15, 0:4] = True
    boxes = np.array([[3, 2, 12, 9], [0, 10, 4, 15]], np.float32)
    return Prediction(NAMES, np.array([1, 2]), np.array([0.9, 0.4], np.float32), boxes, (16, 16), masks)


def test_masks_go_to_coco():
    found = prediction()
    assert found.over(0.5).masks.shape == (1, 16, 16)
    entries = found.to_coco(image_id=5)
    for entry, mask in zip(entries, found.masks, strict=True):
        shape = entry["segmentation"]
        np.testing.assert_array_equal(rle.decode(rle.from_text(shape["counts"]), tuple(shape["size"])), mask)
        assert entry["area"] == mask.sum()
    assert entries[0]["bbox"] == pytest.approx([3, 2, 9, 7])


def test_masks_are_drawn():
    from PIL import Image

    drawn = np.asarray(prediction().draw(Image.new("RGB", (400, 400))), int)
    inside = drawn[140, 190]  # of the first mask, 25 times as large
    assert inside.any()
    assert abs(inside / np.array(colour(1)) - 0.45).max() < 0.05
    assert not drawn[300, 300].any()
