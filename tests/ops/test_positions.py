from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from vitrail.ops.positions import resample, sincos_1d, sincos_2d
from vitrail.ops.rope import rope_2d, rotate


def test_sincos_1d_is_the_transformers_formula() -> None:
    table = sincos_1d(7, 10)
    for t in range(7):
        for i in range(5):
            angle = t / 10000 ** (2 * i / 10)
            assert table[t, 2 * i] == pytest.approx(math.sin(angle), abs=1e-6)
            assert table[t, 2 * i + 1] == pytest.approx(math.cos(angle), abs=1e-6)


def test_sincos_2d_is_the_plain_baselines_formula() -> None:
    h, w, dim = 3, 5, 16
    table = sincos_2d((h, w), dim)
    assert table.shape == (15, 16)
    omega = 10000.0 ** -(torch.arange(4).double() / 3)
    for y in range(h):
        for x in range(w):
            expected = torch.cat([(x * omega).sin(), (x * omega).cos(), (y * omega).sin(), (y * omega).cos()])
            torch.testing.assert_close(table[y * w + x].double(), expected, atol=1e-6, rtol=0)


def test_resampling_equals_timm() -> None:
    from timm.layers import resample_abs_pos_embed

    positions = torch.randn(1, 14 * 14, 24)
    for new in ((24, 24), (10, 17)):
        expected = resample_abs_pos_embed(positions, list(new), [14, 14], num_prefix_tokens=0)
        torch.testing.assert_close(resample(positions, (14, 14), new), expected)


def test_resampling_equals_torchvision() -> None:
    from torchvision.models.vision_transformer import interpolate_embeddings

    positions = torch.randn(1, 1 + 14 * 14, 24)
    state = interpolate_embeddings(384, 16, {"encoder.pos_embedding": positions.clone()})
    ours = resample(positions[:, 1:], (14, 14), (24, 24), "bicubic_corners")
    torch.testing.assert_close(ours, state["encoder.pos_embedding"][:, 1:])


@pytest.mark.parametrize("new", [(24, 24), (10, 17), (1, 37)])
def test_metas_offset_scales_coordinates_by_a_little_more(new: tuple[int, int]) -> None:
    positions = torch.randn(1, 16 * 16, 8)
    square = positions.reshape(1, 16, 16, 8).permute(0, 3, 1, 2)
    scale = ((new[0] + 0.1) / 16, (new[1] + 0.1) / 16)
    expected = F.interpolate(square, scale_factor=scale, mode="bicubic").permute(0, 2, 3, 1)
    assert expected.shape == (1, *new, 8)
    ours = resample(positions, (16, 16), new, "bicubic_offset")
    torch.testing.assert_close(ours, expected.reshape(1, -1, 8))
    assert (ours - resample(positions, (16, 16), new, "bicubic")).abs().max() > 1e-3


def test_resampling_a_gradient_of_positions_keeps_it_a_gradient() -> None:
    ramp = torch.linspace(0, 1, 9)[:, None].expand(9, 9).reshape(1, 81, 1)
    ours = resample(ramp, (9, 9), (17, 5), "bilinear_corners").reshape(17, 5)
    torch.testing.assert_close(ours, torch.linspace(0, 1, 17)[:, None].expand(17, 5))


def test_rotation_keeps_lengths_and_depends_only_on_offsets() -> None:
    grid, dim = (4, 6), 16
    rotation = rope_2d(grid, dim)
    q, k = torch.randn(dim).expand(24, dim), torch.randn(dim).expand(24, dim)
    turned_q, turned_k = rotate(q, rotation), rotate(k, rotation)
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1))
    scores = (turned_q @ turned_k.T).unflatten(0, grid).unflatten(2, grid)
    torch.testing.assert_close(scores[1, 2, 2, 4], scores[0, 1, 1, 3])
    torch.testing.assert_close(scores[3, 0, 1, 5], scores[2, 0, 0, 5])
    assert not torch.allclose(scores[0, 0, 0, 0], scores[0, 0, 2, 3])


def test_rotation_equals_complex_multiplication_and_spares_the_prefix() -> None:
    grid, dim = (3, 5), 8
    x = torch.randn(2, 2, 1 + 15, dim)
    turned = rotate(x, rope_2d(grid, dim), num_prefix=1)
    assert torch.equal(turned[:, :, :1], x[:, :, :1])
    frequency = 100.0 ** -(torch.arange(0, dim, 4) / dim)
    rows, columns = torch.meshgrid(torch.arange(3.0), torch.arange(5.0), indexing="ij")
    angle = torch.cat([columns.reshape(-1, 1) * frequency, rows.reshape(-1, 1) * frequency], dim=1)
    expected = torch.view_as_complex(x[:, :, 1:].unflatten(-1, (-1, 2)).contiguous()) * torch.exp(1j * angle)
    torch.testing.assert_close(turned[:, :, 1:], torch.view_as_real(expected).flatten(-2), atol=1e-5, rtol=1e-5)


def test_losses_equal_torch() -> None:
    from vitrail.ops.losses import binary_cross_entropy, cross_entropy, soften

    logits, labels = torch.randn(6, 5), torch.randint(0, 5, (6,))
    soft = torch.rand(6, 5).softmax(dim=1)
    torch.testing.assert_close(cross_entropy(logits, labels, 0.1), F.cross_entropy(logits, soften(labels, 5, 0.1)))
    torch.testing.assert_close(cross_entropy(logits, soft), -(soft * logits.log_softmax(1)).sum(1).mean())
    hot = F.one_hot(labels, 5).float()
    torch.testing.assert_close(
        binary_cross_entropy(logits, labels), F.binary_cross_entropy(logits.sigmoid(), hot), atol=1e-6, rtol=1e-5
    )
