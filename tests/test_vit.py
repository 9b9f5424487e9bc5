from __future__ import annotations

from typing import Any

import pytest
import torch

from vitrail.config import from_dict, to_dict
from vitrail.errors import UserError
from vitrail.nn.block import BlockConfig
from vitrail.nn.patch_embed import PatchEmbedConfig
from vitrail.nn.resnet_stem import ResNetStemConfig
from vitrail.vit import ViT, ViTConfig
from vitrail.vit_costs import IMAGE_SIZE, PUBLISHED, count, shape
from vitrail.vit_presets import preset, presets

TINY: dict[str, Any] = {"image_size": 16, "patch_size": 4, "dim": 32, "depth": 3, "heads": 2, "mlp_dim": 64}


def tiny(**changes: Any) -> ViT:
    vit = ViT(ViTConfig(**{**TINY, **changes})).eval()
    for parameter in vit.parameters():  # away from zeros and ones, so that nothing can hide
        torch.nn.init.normal_(parameter, std=0.2)
    return vit


VARIANTS: list[dict[str, Any]] = [
    {},
    {"class_token": False},
    {"registers": 3},
    {"positions": "sincos_1d"},
    {"positions": "sincos_2d", "class_token": False, "registers": 2},
    {"positions": "rope_2d"},
    {"positions": "none"},
    {"class_position": False},
    {"channels": 7},
    {"image_size": (8, 24), "patch_size": (4, 2)},
    {"block": BlockConfig(order="post"), "final_norm": False},
    {"block": BlockConfig(mlp="swiglu", qk_norm=True, layer_scale=0.1, head_dim=8)},
    {"block": BlockConfig(mlp="quick_gelu", qkv_bias=False), "pre_norm": True},
    {"embed": PatchEmbedConfig(stride=2)},
    {"embed": PatchEmbedConfig(pad=True), "image_size": (15, 18)},
    {"embed": {"kind": "conv"}},
    {"embed": ResNetStemConfig(layers=(), width=32), "patch_size": 8, "image_size": 32},
]


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_every_variant_runs_trains_and_survives_json(changes: dict[str, Any]) -> None:
    vit = tiny(**changes)
    config = vit.config
    assert from_dict(ViTConfig, to_dict(config)) == config
    images = torch.randn(2, config.channels, *config.image_size)
    features = vit(images)
    h, w = features.grid
    assert features.tokens.shape == (2, vit.num_prefix + h * w, 32)
    assert features.map.shape == (2, 32, h, w)
    assert torch.equal(features.map[:, :, 0, -1], features.patches[:, w - 1])
    assert (features.cls is None) == (not config.class_token)
    assert features.registers.shape[1] == config.registers
    features.tokens.square().sum().backward()
    for name, parameter in vit.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_batching_changes_nothing(changes: dict[str, Any]) -> None:
    vit = tiny(**changes)
    images = torch.randn(5, vit.config.channels, *vit.config.image_size)
    together = vit(images).tokens
    alone = torch.cat([vit(image[None]).tokens for image in images])
    torch.testing.assert_close(together, alone, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("changes", VARIANTS, ids=str)
def test_attentions_and_intermediates_belong_to_the_fast_path(changes: dict[str, Any]) -> None:
    vit = tiny(**changes)
    images = torch.randn(2, vit.config.channels, *vit.config.image_size)
    features = vit(images)
    captured = []
    hooks = [b.register_forward_hook(lambda _m, _i, out: captured.append(out)) for b in vit.blocks]
    vit(images)
    for hook in hooks:
        hook.remove()
    inner = vit.intermediates(images, [0, -1])
    torch.testing.assert_close(inner[0].tokens, captured[0])
    torch.testing.assert_close(inner[1].tokens, captured[-1])
    torch.testing.assert_close(vit.intermediates(images, [-1], norm=True)[0].tokens, features.tokens)
    for layer, weights in enumerate(vit.attentions(images)):
        block = vit.blocks[layer]
        x = vit.tokenise(images)[0] if layer == 0 else captured[layer - 1]
        x = block.norm1(x) if block.order == "pre" else x
        rotation = vit.tokenise(images)[2]
        _, _, v = block.attention.project(x, rotation)
        mixed = block.attention.out((weights @ v).transpose(1, 2).flatten(2))
        torch.testing.assert_close(mixed, block.attention(x, rotation), atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(weights.sum(-1), torch.ones_like(weights.sum(-1)))


def test_layers_out_of_range_are_refused() -> None:
    with pytest.raises(UserError, match="layers 0 to 2"):
        tiny().attentions(torch.randn(1, 3, 16, 16), [3])


def test_any_size_at_run_time_and_native_resize_agree() -> None:
    for positions in ("learned", "sincos_1d", "sincos_2d", "rope_2d"):
        vit = tiny(positions=positions)
        images = torch.randn(2, 3, 24, 12)
        before = vit(images).tokens
        vit.resize((24, 12))
        assert vit.config.image_size == (24, 12)
        torch.testing.assert_close(vit(images).tokens, before)
        assert vit(images).grid == (6, 3)
        rebuilt = ViT(vit.config).eval()
        rebuilt.load_state_dict(vit.state_dict())
        torch.testing.assert_close(rebuilt(images).tokens, before)


def test_resizing_patches_keeps_tokens_of_enlarged_images() -> None:
    vit = tiny(embed=PatchEmbedConfig(stride=2))
    images = torch.randn(1, 3, 16, 16)
    before = vit(images)
    vit.resize(patch_size=8, image_size=32)
    assert vit.config.embed.stride == (4, 4)
    after = vit(torch.nn.functional.interpolate(images, scale_factor=2, mode="bilinear"))
    assert after.grid == before.grid
    assert ViT(vit.config).embed.projection.weight.shape == vit.embed.projection.weight.shape


def test_stems_keep_their_patch_size() -> None:
    with pytest.raises(UserError, match="conv stem cannot change"):
        tiny(embed={"kind": "conv"}).resize(patch_size=8)


def test_wrong_inputs_are_named() -> None:
    vit = tiny()
    with pytest.raises(UserError, match=r"\(batch, 3, height, width\), not \(2, 1, 16, 16\)"):
        vit(torch.randn(2, 1, 16, 16))
    with pytest.raises(UserError, match="18×16"):
        vit(torch.randn(2, 3, 18, 16))
    with pytest.raises(UserError, match="dim 33 is not a multiple of heads 2"):
        ViTConfig(**{**TINY, "dim": 33})
    with pytest.raises(UserError, match=r"did you mean 'S/16'\?"):
        preset("s/16x")
    with pytest.raises(UserError, match=r"did you mean 'depth'\?"):
        preset("S/16", dept=3)


def test_dropout_and_drop_path_act_only_in_training() -> None:
    vit = tiny(block=BlockConfig(dropout=0.3, attention_dropout=0.3, drop_path=0.3))
    images = torch.randn(2, 3, 16, 16)
    assert torch.equal(vit(images).tokens, vit(images).tokens)
    vit.train()
    assert not torch.equal(vit(images).tokens, vit(images).tokens)
    rates = [getattr(b.branch1, "drop_path", None) for b in vit.blocks]
    assert [r.rate if r else 0.0 for r in rates] == pytest.approx([0, 0.15, 0.3])


def test_vit_equals_timm() -> None:
    from timm.models.vision_transformer import VisionTransformer

    theirs = VisionTransformer(
        img_size=32, patch_size=8, embed_dim=48, depth=3, num_heads=4, num_classes=0, reg_tokens=2,
        no_embed_class=False, init_values=0.3, qk_norm=True, dynamic_img_size=True,
    ).eval()  # fmt: skip
    for parameter in theirs.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    config = ViTConfig(
        image_size=32, patch_size=8, dim=48, depth=3, heads=4, mlp_dim=192, registers=2,
        block=BlockConfig(layer_scale=0.3, qk_norm=True),
    )  # fmt: skip
    ours = ViT(config).eval()
    rules = {
        "cls_token": "class_token", "reg_token": "registers", "pos_embed": "positions.embedding",
        "patch_embed.proj": "embed.projection", ".attn.": ".attention.", ".attention.proj.": ".attention.out.",
        "ls1": "branch1.scale", "ls2": "branch2.scale",
    }  # fmt: skip
    state = theirs.state_dict()
    for old, new in rules.items():
        state = {key.replace(old, new): value for key, value in state.items()}
    # timm counts registers among the position rows; ours have none
    rows = state["positions.embedding"]
    state["registers"] = state["registers"] + rows[:, 1:3]
    state["positions.embedding"] = torch.cat((rows[:, :1], rows[:, 3:]), dim=1)
    ours.load_state_dict(state)
    images = torch.randn(2, 3, 32, 32)
    torch.testing.assert_close(ours(images).tokens, theirs.forward_features(images), atol=1e-4, rtol=1e-4)
    inner = theirs.get_intermediate_layers(images, n=3, return_prefix_tokens=True)
    for features, (patches, prefix) in zip(ours.intermediates(images), inner, strict=True):
        torch.testing.assert_close(features.patches, patches, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(features.prefix, prefix, atol=1e-4, rtol=1e-4)


PAPER = {  # parameters (M) and GMACs at 224 with a 1000-class head: the published table
    "Ti/16": (5.7, 1.25), "S/16": (22.1, 4.6), "B/16": (86.6, 17.6), "B/32": (88.2, 4.4), "L/16": (304, 61.6),
    "L/32": (306, 15.4), "H/14": (632, 167), "So400m/14": (414, 110), "g/14": (1013, 267), "G/14": (1844, 484),
}  # fmt: skip
HYBRIDS = {  # timm's own counts of the same models, parameters with a 1000-class head
    "R+Ti/16": 6_337_704, "R26+S/32": 36_431_912, "R50+B/16": 97_890_112 + 769_000, "R50+L/32": 328_994_856,
}  # fmt: skip


def test_presets_match_the_papers_table() -> None:
    for name, (parameters, gmacs) in PAPER.items():
        counted = count(preset(name))
        assert counted.parameters / 1e6 == pytest.approx(parameters, rel=0.006), name
        assert counted.macs / 1e9 == pytest.approx(gmacs, rel=0.01), name
    for name, parameters in HYBRIDS.items():
        assert count(preset(name)).parameters == parameters, name
    assert set(PAPER) | set(HYBRIDS) <= set(presets())


def test_the_listed_costs_are_those_counted() -> None:
    assert list(PUBLISHED) == presets()
    assert {name: count(preset(name)) for name in presets()} == PUBLISHED
    assert preset("Ti/16").image_size == IMAGE_SIZE
    for name in presets():
        config = preset(name)
        assert shape(name) == (config.dim, config.depth, config.heads, config.mlp_dim)


def test_a_model_is_built_from_a_name_and_changes() -> None:
    vit = ViT("Ti/16", image_size=32, depth=1, registers=2)
    assert vit.config == preset("Ti/16", image_size=32, depth=1, registers=2)
    assert ViT(vit.config, registers=0).config == preset("Ti/16", image_size=32, depth=1)
    with pytest.raises(UserError, match=r"unknown model 'Tj/16'; did you mean 'Ti/16'"):
        ViT("Tj/16")
    with pytest.raises(UserError, match="dpeth"):
        ViT("Ti/16", dpeth=3)
    with pytest.raises(UserError, match="dpeth"):
        ViT(vit.config, dpeth=3)


def test_any_patch_size_and_overrides() -> None:
    config = preset("S/4", image_size=(32, 64), registers=4)
    assert config.patch_size == (4, 4)
    assert count(config, num_classes=10).tokens == 8 * 16 + 1 + 4


@pytest.mark.parametrize("positions", ["sincos_1d", "sincos_2d", "rope_2d", "relative"])
def test_the_cost_does_not_hang_on_the_positions(positions):
    plain = {"image_size": 32, "patch_size": 8, "dim": 16, "heads": 2, "mlp_dim": 32, "depth": 2}
    assert count(ViTConfig(**plain, positions=positions)).macs == count(ViTConfig(**plain, positions="none")).macs
