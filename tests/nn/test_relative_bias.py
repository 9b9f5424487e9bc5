"""BEiT's relative positions and its keys without bias."""

from __future__ import annotations

import pytest
import torch

from vitrail.errors import UserError
from vitrail.explain.methods import relevance
from vitrail.nn.block import BlockConfig
from vitrail.nn.relative_bias import RelativeBias
from vitrail.ops.relative import num_entries, offsets, square_of
from vitrail.tasks import classification
from vitrail.vit import ViT, ViTConfig

SMALL = {"image_size": (24, 32), "patch_size": 8, "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 24}


def random_vit(**more) -> ViT:
    torch.manual_seed(0)
    vit = ViT(ViTConfig(**{**SMALL, "positions": "relative", "block": BlockConfig(key_bias=False), **more})).eval()
    for parameter in vit.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    return vit


@pytest.mark.parametrize("grid", [(1, 1), (3, 4), (5, 2)])
def test_the_order_of_offsets_is_timms(grid: tuple[int, int]) -> None:
    from timm.models.beit import gen_relative_position_index

    assert torch.equal(offsets(grid, class_token=True).index, gen_relative_position_index(grid))


@pytest.mark.parametrize("class_token", [True, False])
def test_every_entry_is_used(class_token: bool) -> None:
    index = offsets((3, 4), class_token).index
    assert index.unique().tolist() == list(range(num_entries((3, 4), class_token)))


def test_a_square_is_found_by_the_length_of_its_table() -> None:
    for class_token in (True, False):
        assert [square_of(num_entries((n, n), class_token), class_token) for n in range(1, 9)] == list(range(1, 9))
        assert square_of(num_entries((3, 4), class_token), class_token) == 0
        assert square_of(0, class_token) == 0


def test_equal_offsets_share_a_bias() -> None:
    index = offsets((3, 4), class_token=False).index.view(3, 4, 3, 4)
    assert index[0, 0, 1, 2] == index[1, 1, 2, 3]
    assert index[0, 0, 1, 2] != index[1, 2, 0, 0]


@pytest.mark.parametrize("class_token", [True, False])
def test_attention_matrices_are_those_of_the_fused_path(class_token: bool) -> None:
    vit = random_vit(class_token=class_token)
    images = torch.randn(2, 3, 24, 32)
    x, _, positions = vit.tokenise(images)
    block = vit.blocks[0]
    x = block.norm1(x)
    _, _, v = block.attention.project(x, positions)
    mixed = (block.attention.weights(x, positions) @ v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(block.attention.out(mixed), block.attention(x, positions))
    for weights in vit.attentions(images):
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights[..., 0]))


def test_keys_without_bias_are_keys_with_a_zero_bias() -> None:
    without, with_zero = random_vit(positions="none"), random_vit(positions="none", block=BlockConfig())
    state = without.state_dict()
    for i in range(2):
        query, value = state.pop(f"blocks.{i}.attention.qv_bias").chunk(2)
        state[f"blocks.{i}.attention.qkv.bias"] = torch.cat((query, torch.zeros(16), value))
    with_zero.load_state_dict(state)
    images = torch.randn(2, 3, 24, 32)
    torch.testing.assert_close(with_zero(images).tokens, without(images).tokens)


def test_resizing_for_good_is_resizing_at_run_time() -> None:
    vit = random_vit()
    images = torch.randn(1, 3, 40, 16)
    expected = vit(images).tokens
    vit.resize((40, 16))
    assert vit.blocks[0].attention.relative.table.shape == (num_entries((5, 2), True), 2)
    assert torch.equal(vit(images).tokens, expected)


def test_a_constant_table_stays_constant_on_any_grid() -> None:
    bias = RelativeBias((3, 4), 2, True, "bicubic")
    torch.nn.init.constant_(bias.table, 0.7)
    torch.testing.assert_close(bias(offsets((6, 5), True)), torch.full((1, 2, 31, 31), 0.7))


def test_it_learns_and_is_explained() -> None:
    config = classification.Config(model=random_vit().config, classes=("a", "b"))
    task = classification.Task(config)
    torch.nn.init.normal_(task.head.output.weight)
    task(torch.randn(2, 3, 24, 32)).square().sum().backward()
    for block in task.vit.blocks:
        assert block.attention.relative.table.grad.abs().sum() > 0
        assert block.attention.qv_bias.grad.abs().sum() > 0
    (heat,) = relevance.explain(task.eval(), torch.randn(1, 3, 24, 32), relevance.Options())
    assert heat.values.shape[-2:] == (3, 4)


def test_other_prefix_tokens_are_refused() -> None:
    for more in ({"registers": 2}, {"distillation_token": True}):
        with pytest.raises((UserError, ValueError), match="relative positions support no"):
            ViTConfig(**SMALL, positions="relative", **more)
