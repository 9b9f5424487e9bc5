"""Overlapping patches around the pixels of their strides, as a convolution that keeps the size."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from vitrail.errors import UserError
from vitrail.nn.patch_embed import PatchEmbed, PatchEmbedConfig


@pytest.mark.parametrize(("patch", "stride"), [(3, 1), (5, 1), (4, 2)])
def test_centred_patches_are_a_padded_convolution(patch: int, stride: int) -> None:
    embed = PatchEmbed(3, (patch, patch), 8, PatchEmbedConfig(stride=(stride, stride), centre=True))
    images = torch.randn(2, 3, 8, 6)
    expected = F.conv2d(images, embed.projection.weight, embed.projection.bias, stride, (patch - stride) // 2)
    assert embed.grid((8, 6)) == tuple(expected.shape[-2:]) == (8 // stride, 6 // stride)
    torch.testing.assert_close(embed(images), expected.flatten(2).transpose(1, 2), atol=1e-5, rtol=1e-5)


def test_they_are_longer_than_their_stride_by_an_even_number() -> None:
    with pytest.raises(UserError, match=r"choose embed\.stride=1 and an odd patch_size"):
        PatchEmbed(3, (4, 4), 8, PatchEmbedConfig(stride=(1, 1), centre=True))
    with pytest.raises(UserError, match="pad, drop and centre exclude each other"):
        PatchEmbedConfig(centre=True, pad=True)
