from __future__ import annotations

import math
from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from vitrail.errors import UserError
from vitrail.nn.attention import Attention
from vitrail.nn.block import Block, BlockConfig
from vitrail.nn.checkpointing import checkpoint_blocks
from vitrail.nn.conv_stem import ConvStem, ConvStemConfig
from vitrail.nn.drop import DropPath
from vitrail.nn.head import Head, HeadConfig
from vitrail.nn.init import initialise
from vitrail.nn.mlp import Mlp, SwiGLU
from vitrail.nn.patch_embed import PatchEmbed, PatchEmbedConfig
from vitrail.nn.pooling import build_pool
from vitrail.nn.resnet_stem import ResNetStem, ResNetStemConfig
from vitrail.nn.standardized_conv import same_padding


@pytest.mark.parametrize("stride", [None, (3, 2)])
def test_patch_projection_equals_its_convolution(stride: tuple[int, int] | None) -> None:
    embed = PatchEmbed(5, (6, 4), 8, PatchEmbedConfig(stride=stride)).double()
    images = torch.randn(2, 5, 24, 16, dtype=torch.float64)
    expected = embed.projection(images).flatten(2).transpose(1, 2)
    torch.testing.assert_close(embed(images), expected)
    assert expected.shape[1] == math.prod(embed.grid((24, 16)))


def test_padding_happens_only_when_asked() -> None:
    images = torch.randn(1, 3, 17, 20)
    with pytest.raises(UserError, match="17×20"):
        PatchEmbed(3, (8, 8), 4, PatchEmbedConfig())(images)
    padded = PatchEmbed(3, (8, 8), 4, PatchEmbedConfig(pad=True))
    assert padded(images).shape == (1, 9, 4)
    assert padded.grid((17, 20)) == (3, 3)
    assert torch.equal(padded(images), padded(F.pad(images, (0, 4, 0, 7))))


def test_attention_is_the_formula_with_a_free_head_width() -> None:
    attention = Attention(24, heads=3, head_dim=5).double()
    x = torch.randn(2, 7, 24, dtype=torch.float64)
    q, k, v = (x @ attention.qkv.weight.T + attention.qkv.bias).split(15, dim=-1)
    heads = []
    for head in range(3):
        part = slice(head * 5, head * 5 + 5)
        weights = (q[..., part] @ k[..., part].transpose(1, 2) / math.sqrt(5)).softmax(dim=-1)
        torch.testing.assert_close(attention.weights(x)[:, head], weights)
        heads.append(weights @ v[..., part])
    expected = torch.cat(heads, dim=-1) @ attention.out.weight.T + attention.out.bias
    torch.testing.assert_close(attention(x), expected)


def test_attention_equals_torchs_module() -> None:
    ours, theirs = Attention(32, heads=4, head_dim=8), nn.MultiheadAttention(32, 4, batch_first=True)
    theirs.in_proj_weight.data, theirs.in_proj_bias.data = ours.qkv.weight.data, ours.qkv.bias.data
    theirs.out_proj.weight.data, theirs.out_proj.bias.data = ours.out.weight.data, ours.out.bias.data
    x = torch.randn(2, 9, 32)
    expected, weights = theirs(x, x, x, average_attn_weights=False)
    torch.testing.assert_close(ours(x), expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.weights(x), weights, atol=1e-5, rtol=1e-5)


def test_pre_and_post_norm_orders() -> None:
    x = torch.randn(2, 5, 16)
    pre = Block(16, 2, 32, BlockConfig())
    middle = x + pre.attention(pre.norm1(x))
    torch.testing.assert_close(pre(x), middle + pre.mlp(pre.norm2(middle)))
    post = Block(16, 2, 32, BlockConfig(order="post"))
    middle = post.norm1(x + post.attention(x))
    torch.testing.assert_close(post(x), post.norm2(middle + post.mlp(middle)))


def test_activations() -> None:
    x = torch.randn(3, 8)
    for kind, function in (
        ("gelu", F.gelu),
        ("gelu_tanh", lambda t: 0.5 * t * (1 + torch.tanh(math.sqrt(2 / math.pi) * (t + 0.044715 * t**3)))),
        ("quick_gelu", lambda t: t * torch.sigmoid(1.702 * t)),
    ):
        mlp = Mlp(8, 12, kind)  # type: ignore[arg-type]
        torch.testing.assert_close(mlp(x), mlp.fc2(function(mlp.fc1(x))))


def test_swiglu_equals_timm() -> None:
    from timm.layers import SwiGLUPacked

    ours, theirs = SwiGLU(8, 12), SwiGLUPacked(8, 24)
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(3, 8)
    torch.testing.assert_close(ours(x), theirs(x))


def test_layer_scale_starts_small_and_scales_the_branches() -> None:
    block = Block(16, 2, 32, BlockConfig(layer_scale=1e-4))
    x = torch.randn(2, 5, 16)
    assert (block(x) - x).abs().max() < 1e-2
    assert block.branch1.scale.gamma.shape == (16,)


def test_drop_path_keeps_the_expectation_and_whole_samples() -> None:
    torch.manual_seed(0)
    drop = DropPath(0.25).train()
    y = drop(torch.ones(4000, 2, 3))
    assert y.unique().tolist() == pytest.approx([0, 1 / 0.75])
    assert (y.flatten(1) == y.flatten(1)[:, :1]).all()
    assert y.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(drop.eval()(y), y)


def test_gradient_checkpointing_changes_neither_results_nor_names() -> None:
    plain = nn.ModuleList(Block(16, 2, 32, BlockConfig()) for _ in range(2))
    saved = nn.ModuleList(Block(16, 2, 32, BlockConfig()) for _ in range(2))
    saved.load_state_dict(plain.state_dict())
    checkpoint_blocks(saved)
    assert list(saved.state_dict()) == list(plain.state_dict())
    x = torch.randn(2, 5, 16)
    for blocks in (plain, saved):
        y = x
        for block in blocks:
            y = block(y)
        y.square().sum().backward()
    for a, b in zip(plain.parameters(), saved.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad)


def test_patches_that_do_not_cover_the_image_drop_its_last_pixels_as_a_convolution_does() -> None:
    embed = PatchEmbed(3, (14, 14), 8, PatchEmbedConfig(drop=True))
    images = torch.randn(2, 3, 46, 59)
    assert embed.grid((46, 59)) == (3, 4)
    torch.testing.assert_close(embed(images), embed.projection(images).flatten(2).mT)
    with pytest.raises(UserError, match="not covered"):
        embed.grid((13, 28))
    with pytest.raises(UserError, match="exclude each other"):
        PatchEmbedConfig(drop=True, pad=True)


def test_conv_stem_downsamples_to_the_patch_size() -> None:
    stem = ConvStem(1, (8, 8), 48, ConvStemConfig())
    assert stem(torch.randn(2, 1, 32, 24)).shape == (2, 12, 48)
    assert stem.grid((32, 24)) == (4, 3)
    with pytest.raises(UserError, match="power of 2"):
        ConvStem(3, (6, 6), 48, ConvStemConfig())


def test_conv_stem_of_several_convolutions_a_stage_begins_at_full_resolution() -> None:
    stem = ConvStem(3, (4, 4), 72, ConvStemConfig(stage_depth=2, full_resolution=True))
    shapes = [tuple(m.weight.shape[:2]) for m in stem.stages if isinstance(m, torch.nn.Conv2d)]
    assert shapes == [(18, 3), (18, 18), (36, 18), (36, 36), (72, 36), (72, 72)]
    assert stem(torch.randn(2, 3, 8, 12)).shape == (2, 6, 72)


@pytest.mark.parametrize(("layers", "patch"), [((1, 1, 2), 16), ((1, 1, 1, 1), 32), ((), 8)])
def test_resnet_stem_equals_timms_resnetv2(layers: tuple[int, ...], patch: int) -> None:
    from timm.layers import StdConv2dSame
    from timm.models.resnetv2 import ResNetV2, create_resnetv2_stem

    config = ResNetStemConfig(layers=layers, width=32, weight_eps=1e-8, norm_eps=1e-5)
    stem = ResNetStem(3, (patch, patch), 24, config)
    for parameter in stem.parameters():
        nn.init.normal_(parameter, std=0.3)
    state = stem.state_dict()
    if layers:
        theirs = ResNetV2(
            layers=layers, channels=(128, 256, 512, 1024)[: len(layers)], stem_chs=32, bottle_ratio=0.25,
            num_classes=0, global_pool="", preact=False, stem_type="same", conv_layer=StdConv2dSame,
        )  # fmt: skip
        renamed = {_timm_name(key): value for key, value in state.items() if not key.startswith("projection")}
    else:
        theirs = create_resnetv2_stem(3, 32, stem_type="same", preact=False, conv_layer=StdConv2dSame)
        renamed = {k.removeprefix("root."): v for k, v in state.items() if k.startswith("root.")}
    theirs.load_state_dict(renamed)
    images = torch.randn(2, 3, 64, 96)
    features = theirs.eval()(images)
    expected = stem.projection(features).flatten(2).transpose(1, 2)
    torch.testing.assert_close(stem(images), expected, atol=1e-4, rtol=1e-4)


def _timm_name(key: str) -> str:
    room, rest = key.split(".", 1)
    if room == "root":
        return f"stem.{rest}"
    stage, rest = rest.split(".", 1)
    return f"stages.{stage}.blocks.{rest}"


def test_same_padding_puts_the_odd_pixel_last() -> None:
    x = torch.ones(1, 1, 224, 7)
    padded = same_padding(x, 7, 2)
    assert padded.shape == (1, 1, 229, 13)
    assert padded[0, 0, :2].sum() == 0
    assert padded[0, 0, -3:].sum() == 0


@pytest.mark.parametrize("kind", ["cls", "mean", "max"])
def test_pools(kind: str) -> None:
    prefix, patches = torch.randn(2, 3, 8), torch.randn(2, 6, 8)
    pooled = build_pool(kind, 8, 2, 16, "gelu", 1e-6)(prefix, patches)  # type: ignore[arg-type]
    expected = {"cls": prefix[:, 0], "mean": patches.mean(1), "max": patches.max(1).values}[kind]
    assert torch.equal(pooled, expected)


def test_attention_pool_equals_timm() -> None:
    from timm.layers import AttentionPoolLatent

    theirs = AttentionPoolLatent(32, num_heads=4, mlp_ratio=2.0, norm_layer=partial(nn.LayerNorm, eps=1e-6))
    for parameter in theirs.parameters():
        nn.init.normal_(parameter, std=0.2)
    ours = build_pool("attention", 32, 4, 64, "gelu", 1e-6)
    names = {"latent": "probe", "proj.": "out."}
    state = theirs.state_dict()
    for old, new in names.items():
        state = {key.replace(old, new) if key.startswith(old) else key: value for key, value in state.items()}
    ours.load_state_dict(state)
    patches = torch.randn(2, 6, 32)
    torch.testing.assert_close(ours(patches[:, :0], patches), theirs.eval()(patches), atol=1e-5, rtol=1e-5)


def test_head_shapes_and_pre_logits() -> None:
    x = torch.randn(3, 8)
    head = Head(8, 5, HeadConfig(hidden=6, activation="tanh", norm=True), 1e-6)
    expected = head.output(torch.tanh(head.hidden(head.norm(x))))
    torch.testing.assert_close(head(x), expected)
    assert Head(8, 5, HeadConfig(), 1e-6).hidden is None


def test_initialisation_follows_the_reproduction_notes() -> None:
    torch.manual_seed(0)
    block, head = Block(96, 3, 384, BlockConfig()), Head(96, 10, HeadConfig(), 1e-6)
    embed = PatchEmbed(3, (16, 16), 96, PatchEmbedConfig())
    for module in (block, head, embed):
        for parameter in module.parameters():
            nn.init.normal_(parameter)
        initialise(module)
    bound = math.sqrt(6 / (96 + 96))
    for kernel in block.attention.qkv_kernels():  # Xavier on separate kernels, not on the packed one
        assert kernel.abs().max().item() <= bound
        assert kernel.std().item() == pytest.approx(bound / math.sqrt(3), rel=0.05)
    assert embed.projection.weight.std().item() == pytest.approx(1 / math.sqrt(768), rel=0.05)
    assert head.output.weight.abs().max() == 0
    assert block.norm1.weight.min() == 1
    assert 0 < block.mlp.fc1.bias.abs().max() < 1e-5
