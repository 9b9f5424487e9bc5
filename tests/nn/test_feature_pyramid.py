from __future__ import annotations

import torch

from vitrail.nn.feature_pyramid import FeaturePyramid, rescaled

SCALES = ("1/2", "1", "2", "4")


def test_scales_have_their_sizes_and_every_parameter_learns():
    pyramid = FeaturePyramid(16, 8, SCALES)
    found = pyramid(torch.randn(2, 16, 4, 6))
    assert [tuple(map_.shape) for map_, _ in found] == [(2, 8, 2, 3), (2, 8, 4, 6), (2, 8, 8, 12), (2, 8, 16, 24)]
    sum((map_ * torch.randn_like(map_)).sum() for map_, _ in found).backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in pyramid.parameters())


def test_padding_changes_nothing_at_any_scale():
    pyramid = FeaturePyramid(16, 8, SCALES)
    for parameter in pyramid.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    x = torch.randn(1, 16, 3, 5)
    alone = pyramid(x)
    canvas = torch.randn(1, 16, 6, 7)
    canvas[:, :, :3, :5] = x
    padding = torch.ones(1, 6, 7, dtype=torch.bool)
    padding[:, :3, :5] = False
    for (own, _), (map_, hidden) in zip(alone, pyramid(canvas, padding), strict=True):
        height, width = own.shape[2:]
        torch.testing.assert_close(map_[:, :, :height, :width], own, atol=1e-5, rtol=1e-4)
        assert not hidden[:, :height, :width].any()
        assert (~hidden).sum() == height * width


def test_a_cell_is_padding_where_all_of_it_is():
    padding = torch.tensor([[[False, False, False, True, True]] * 3])
    assert rescaled(padding, "1/2").tolist() == [[[False, False, True]] * 2]
    assert rescaled(padding, "2").shape == (1, 6, 10)
