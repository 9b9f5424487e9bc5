from __future__ import annotations

import pytest
import torch

from vitrail.errors import UserError
from vitrail.nn.attention import Attention, Masked
from vitrail.nn.block import Block, BlockConfig
from vitrail.nn.windows import SplitConfig, WindowConfig, Windowed, Windows, from_windows, to_windows, visible
from vitrail.ops.rope import rope_2d

D, H = 16, 2


@pytest.mark.parametrize(("grid", "size"), [((4, 6), (2, 2)), ((5, 7), (3, 2)), ((3, 3), (8, 8))])
def test_windows_hold_neighbours_and_go_back(grid, size):
    x = torch.randn(2, H, grid[0] * grid[1], 3)
    windows = to_windows(x, grid, size)
    rows, columns = (-(-length // side) for length, side in zip(grid, size, strict=True))
    assert windows.shape == (2 * rows * columns, H, size[0] * size[1], 3)
    torch.testing.assert_close(windows[0, :, 0], x[0, :, 0])
    torch.testing.assert_close(windows[rows * columns, :, 0], x[1, :, 0])
    torch.testing.assert_close(from_windows(windows, grid, size), x)


@pytest.mark.parametrize("prefix", [0, 2])
@pytest.mark.parametrize("rotary", [False, True])
@pytest.mark.parametrize("padded", [False, True])
def test_windowed_attention_is_attention_under_a_mask(prefix, rotary, padded):
    grid, size = (5, 7), (3, 2)
    module = Attention(D, H, D // H).eval()
    positions = rope_2d(grid, D // H) if rotary else None
    x = torch.randn(2, prefix + 35, D)
    padding = torch.zeros(2, *grid, dtype=torch.bool)
    if padded:
        padding[0, :, 5:] = padding[1, 4:] = True
    row, column = torch.arange(35) // 7 // size[0], torch.arange(35) % 7 // size[1]
    sees = torch.ones(2, prefix + 35, prefix + 35, dtype=torch.bool)
    sees[:, prefix:, prefix:] = (row[:, None] == row) & (column[:, None] == column)
    sees[:, :, prefix:] &= ~padding.flatten(1)[:, None]
    q, k, v = module.project(x, positions)
    scores = (q @ k.transpose(-2, -1) * (D // H) ** -0.5).masked_fill(~sees[:, None], -torch.inf)
    expected = module.out((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    pattern = Windowed(grid, size, padding.flatten(1) if padded else None)
    found = pattern(module, x, positions)
    kept = torch.nn.functional.pad(~padding.flatten(1), (prefix, 0), value=True)
    mask = pattern.mask(x).expand(2, 1, -1, -1)[:, 0]
    assert torch.equal(mask[kept], sees[kept])
    assert mask.any(dim=-1).all()
    torch.testing.assert_close(found[kept], expected[kept], atol=1e-6, rtol=1e-5)
    assert found.isfinite().all()


def test_attention_under_a_mask_never_reads_padding():
    module = Attention(D, H, D // H).eval()
    padding = torch.zeros(2, 12, dtype=torch.bool)
    padding[1, 8:] = True
    x = torch.randn(2, 13, D)
    found = Masked(visible(padding, 13)[:, None, None])(module, x, None)
    torch.testing.assert_close(found[0], module(x)[0])
    torch.testing.assert_close(found[1, :9], module(x[1:, :9])[0])


def test_global_blocks_are_spread_and_end_the_stack():
    window = WindowConfig(num_global=4)
    assert [layer for layer in range(12) if window.is_global(layer, 12)] == [2, 5, 8, 11]
    assert [layer for layer in range(2) if window.is_global(layer, 2)] == [0, 1]


def test_windows_that_are_parts_of_any_grid():
    split = SplitConfig(parts=2, layers=(0, 2))
    assert [layer for layer in range(4) if split.is_global(layer, 4)] == [1, 3]
    assert [split.side(grid) for grid in ((4, 4), (4, 8), (5, 2))] == [(2, 2), (2, 4), (3, 1)]


def test_relative_positions_have_no_windows():
    from vitrail.nn.relative_bias import RelativeBias

    block = Block(D, H, D, BlockConfig(), relative=RelativeBias((4, 4), H, False, "bicubic"))
    padding = torch.zeros(1, 16, dtype=torch.bool)
    for attend in (Windows((4, 4), 2, WindowConfig(size=2, num_global=1), None), Windows((4, 4), 2, None, padding)):
        with pytest.raises(UserError, match="takes no windows and no padding; choose other positions"):
            attend(0, block, torch.randn(1, 16, D), None)


@pytest.mark.parametrize("grid", [(6, 6), (5, 7), (2, 3)])
def test_shifted_windows_are_attention_under_their_mask(grid):
    module = Attention(D, H, D // H).eval()
    x = torch.randn(2, grid[0] * grid[1], D)
    window = WindowConfig(size=3, num_global=0, shifted=True)
    assert [window.shift(layer) for layer in range(4)] == [0, 2, 0, 2]
    pattern = Windowed(grid, (3, 3), None, window.shift(1))
    torch.testing.assert_close(pattern(module, x, None), module(x, None, pattern.mask(x)), atol=1e-6, rtol=1e-5)
    moved = to_windows(x[:, None], grid, (3, 3), 2)
    torch.testing.assert_close(from_windows(moved, grid, (3, 3), 2, 2)[:, 0], x)


def test_relative_positions_of_a_window_go_with_windows_of_that_size():
    from vitrail.nn.relative_bias import RelativeBias

    block = Block(D, H, D, BlockConfig(), relative=RelativeBias((2, 2), H, False, "bicubic"))
    x = torch.randn(1, 16, D)
    found = Windows((4, 4), 2, WindowConfig(size=2, num_global=0), None)(0, block, x, None)
    alone = Windows((2, 2), 2, WindowConfig(size=2, num_global=0), None)(0, block, x[:, [0, 1, 4, 5]], None)
    torch.testing.assert_close(found[:, [0, 1, 4, 5]], alone)
