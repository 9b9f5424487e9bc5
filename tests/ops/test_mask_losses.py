from __future__ import annotations

import torch
from transformers.models.mask2former.modeling_mask2former import dice_loss, sigmoid_cross_entropy_loss

from vitrail.ops.mask_losses import mask_cross_entropy, mask_dice
from vitrail.ops.mask_outputs import pack, unpack


def test_losses_are_those_of_mask2former():
    logits, truth = torch.randn(5, 6, 7), torch.rand(5, 6, 7).round()
    flat = logits.flatten(1), truth.flatten(1)
    torch.testing.assert_close(mask_cross_entropy(logits, truth, torch.tensor(4)), sigmoid_cross_entropy_loss(*flat, 4))
    torch.testing.assert_close(mask_dice(logits, truth, torch.tensor(4)), dice_loss(*flat, 4))


def test_no_object_is_no_loss():
    nothing, one = torch.zeros(0, 6, 7), torch.tensor(1)
    assert mask_cross_entropy(nothing, nothing, one) == mask_dice(nothing, nothing, one) == 0


def test_packing_goes_there_and_back():
    objects, masks = torch.randn(2, 3, 9), torch.randn(2, 3, 4, 6)
    outputs = pack(objects, masks)
    assert outputs.shape == (2, 3, 9 + 1 + 24)
    found = unpack(outputs, 9)
    assert torch.equal(found[0], objects)
    assert torch.equal(found[1], masks)
