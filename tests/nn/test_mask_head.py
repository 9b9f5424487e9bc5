from __future__ import annotations

import pytest
import torch

from vitrail.nn.init import initialise
from vitrail.nn.mask_head import MaskConfig, MaskHead


def build(stride=4):
    module = MaskHead(3, 12, 16, MaskConfig(stride=stride, dim=16))
    initialise(module)
    return module


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_masks_are_products_of_queries_and_pixels(stride):
    module, x = build(stride), torch.randn(2, 5, 16)
    images, map_ = torch.randn(2, 3, 16, 24), torch.randn(2, 12, 2, 3)
    masks = module(x, images, map_, None)
    assert masks.shape == (2, 5, 16 // stride, 24 // stride)
    pixels = module.pixels(images, map_, None)
    expected = (module.query(x[1, 3])[:, None, None] * pixels[1]).sum(dim=0) / 16**0.5
    torch.testing.assert_close(masks[1, 3], expected)
    image, query = torch.tensor([1, 0, 1]), torch.tensor([3, 2, 0])
    some = module.chosen(x[image, query], pixels, image)
    torch.testing.assert_close(some, masks[image, query])


def test_what_lies_in_padding_changes_nothing():
    module, x = build(2), torch.randn(1, 5, 16)
    images, map_ = torch.randn(1, 3, 16, 24), torch.randn(1, 12, 2, 3)
    padding = torch.zeros(1, 16, 24, dtype=torch.bool)
    padding[..., 16:] = True
    other = images.masked_fill(padding.unsqueeze(1), 9.0)
    seen = [module(x, each, map_, padding)[..., :8] for each in (images, other)]
    torch.testing.assert_close(*seen)
    assert not torch.equal(module(x, images, map_, None), module(x, other, map_, None))
