from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st

from vitrail.errors import UserError
from vitrail.ops.patches import grid_size, pad_to_patches, patchify, resize_kernel, unpatchify

side = st.integers(1, 5)


@settings(max_examples=40, deadline=None)
@given(side, side, side, side, st.integers(1, 5), st.integers(1, 3))
def test_unpatchify_undoes_patchify(h: int, w: int, p_h: int, p_w: int, channels: int, batch: int) -> None:
    images = torch.randn(batch, channels, h * p_h, w * p_w)
    patches = patchify(images, (p_h, p_w))
    assert patches.shape == (batch, h * w, channels * p_h * p_w)
    assert torch.equal(unpatchify(patches, (p_h, p_w), (h, w)), images)


@settings(max_examples=30, deadline=None)
@given(side, side, st.integers(1, 4), st.integers(1, 4), st.integers(0, 4), st.integers(0, 4))
def test_patches_equal_a_strided_convolution(p_h: int, p_w: int, t_h: int, t_w: int, n_h: int, n_w: int) -> None:
    images = torch.randn(2, 3, p_h + n_h * t_h, p_w + n_w * t_w, dtype=torch.float64)
    kernel = torch.randn(7, 3, p_h, p_w, dtype=torch.float64)
    patches = patchify(images, (p_h, p_w), (t_h, t_w))
    expected = F.conv2d(images, kernel, stride=(t_h, t_w)).flatten(2).transpose(1, 2)
    torch.testing.assert_close(patches @ kernel.flatten(1).T, expected)


def test_a_size_that_does_not_fit_is_refused_and_named() -> None:
    with pytest.raises(UserError, match=r"33×48 pixels .* patches of 16×16; resize it to 32×48 or set embed.pad=true"):
        grid_size((33, 48), (16, 16))
    with pytest.raises(UserError, match="every 3×3"):
        grid_size((9, 9), (4, 4), (3, 3))
    with pytest.raises(UserError):
        patchify(torch.randn(1, 3, 8, 9), (4, 4))


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 20), st.integers(1, 20), side, side, st.integers(1, 5))
def test_padding_covers_the_image_with_the_fewest_pixels(h: int, w: int, p_h: int, p_w: int, stride: int) -> None:
    images = torch.ones(1, 2, h, w)
    steps = (min(stride, p_h), min(stride, p_w))
    padded = pad_to_patches(images, (p_h, p_w), steps)
    grid_size((padded.shape[2], padded.shape[3]), (p_h, p_w), steps)
    assert torch.equal(padded[..., :h, :w], images)
    assert padded.abs().sum() == images.abs().sum()
    assert padded.shape[2] - h < max(steps[0], p_h)
    assert padded.shape[3] - w < max(steps[1], p_w)


def test_resized_kernel_keeps_tokens_of_resized_images() -> None:
    kernel = torch.randn(5, 3, 4, 4, dtype=torch.float64)
    images = torch.randn(2, 3, 4, 4, dtype=torch.float64)
    larger = F.interpolate(images, (8, 12), mode="bilinear", align_corners=False)
    resized = resize_kernel(kernel, (8, 12))
    torch.testing.assert_close(F.conv2d(larger, resized), F.conv2d(images, kernel))


def test_resized_kernel_equals_timm() -> None:
    from timm.layers.patch_embed import resample_patch_embed

    kernel = torch.randn(5, 3, 16, 16)
    for size in ((8, 8), (32, 20)):
        expected = resample_patch_embed(kernel, list(size), interpolation="bilinear", antialias=False)
        torch.testing.assert_close(resize_kernel(kernel, size), expected, atol=1e-4, rtol=1e-4)
