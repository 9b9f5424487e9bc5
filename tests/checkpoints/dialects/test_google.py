"""Google's .npz files: timm, which reads them, computes the same, both ways.

The files are written here from timm's models in each of Google's layouts; what timm cannot show (the pre-logits, the
hybrids' weight standardisation, position resampling) is compared with a few lines of the originals' equations.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import ndimage
from timm.layers import GroupNormAct, HybridEmbed, StdConv2dSame, conv2d_same
from timm.models.resnetv2 import ResNetV2, create_resnetv2_stem
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.errors import UserError

HEADS = 2
SIZES: dict[str, Any] = {
    "img_size": 32, "patch_size": 8, "embed_dim": 32, "depth": 3, "num_heads": HEADS, "mlp_ratio": 2, "num_classes": 5,
    "act_layer": "gelu_tanh",
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "token": {},
    "mean": {"class_token": False, "global_pool": "avg", "fc_norm": False},
    "map": {"class_token": False, "global_pool": "map", "num_classes": 0},
}
LAYOUTS = ("classic", "big_vision", "scan")
_BIG_VISION = {"LayerNorm_2": "LayerNorm_1", "MultiHeadDotProductAttention_1": "MultiHeadDotProductAttention_0",
               "MlpBlock_3": "MlpBlock_0"}  # fmt: skip


def attention(
    module: nn.Module, qkv: dict[str, Tensor], biases: dict[str, Tensor], out: nn.Linear
) -> dict[str, Tensor]:
    made = {f"{n}/kernel": value.T.reshape(value.shape[1], HEADS, -1) for n, value in qkv.items()}
    made |= {f"{n}/bias": value.reshape(HEADS, -1) for n, value in biases.items()}
    return made | {"out/kernel": out.weight.T.reshape(HEADS, -1, len(out.weight)), "out/bias": out.bias}


def dense(name: str, layer: nn.Linear) -> dict[str, Tensor]:
    return {f"{name}/kernel": layer.weight.T, f"{name}/bias": layer.bias}


def norm(name: str, layer: nn.Module, shape: tuple[int, ...] = (-1,)) -> dict[str, Any]:
    return {f"{name}/scale": layer.weight.reshape(shape), f"{name}/bias": layer.bias.reshape(shape)}


def under(prefix: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{prefix}/{name}": value for name, value in tensors.items()}


def block_of(block: Any) -> dict[str, Tensor]:
    parts = ("query", "key", "value")
    qkv, biases = (
        dict(zip(parts, value.chunk(3), strict=True)) for value in (block.attn.qkv.weight, block.attn.qkv.bias)
    )
    return {
        **norm("LayerNorm_0", block.norm1),
        **under("MultiHeadDotProductAttention_1", attention(block, qkv, biases, block.attn.proj)),
        **norm("LayerNorm_2", block.norm2),
        **under("MlpBlock_3", {**dense("Dense_0", block.mlp.fc1), **dense("Dense_1", block.mlp.fc2)}),
    }


def pool_of(pool: Any) -> dict[str, Tensor]:
    kernels = {"query": pool.q.weight, **dict(zip(("key", "value"), pool.kv.weight.chunk(2), strict=True))}
    biases = {"query": pool.q.bias, **dict(zip(("key", "value"), pool.kv.bias.chunk(2), strict=True))}
    return {
        "probe": pool.latent,
        **under("MultiHeadDotProductAttention_0", attention(pool, kernels, biases, pool.proj)),
        **norm("LayerNorm_0", pool.norm),
        **under("MlpBlock_0", {**dense("Dense_0", pool.mlp.fc1), **dense("Dense_1", pool.mlp.fc2)}),
    }


def stem_of(backbone: Any) -> dict[str, Tensor]:
    def pair(conv: str, group_norm: str, source: Any, i: str = "") -> dict[str, Tensor]:
        kernel = getattr(source, f"conv{i}").weight.permute(2, 3, 1, 0)
        return {f"{conv}/kernel": kernel, **norm(group_norm, getattr(source, f"norm{i}"), (1, 1, 1, -1))}

    made = pair("conv_root", "gn_root", getattr(backbone, "stem", backbone))
    for s, stage in enumerate(getattr(backbone, "stages", ()), 1):
        for u, unit in enumerate(stage.blocks, 1):
            for i in "123":
                made |= under(f"block{s}/unit{u}", pair(f"conv{i}", f"gn{i}", unit, i))
            if unit.downsample is not None:
                made |= under(f"block{s}/unit{u}", pair("conv_proj", "gn_proj", unit.downsample))
    return made


def export(model: Any, path: Path, layout: str = "classic", prefix: str = "", dtype: str = "float32") -> Path:
    """Write a timm model as Google would."""
    classic = layout == "classic"
    embed = model.patch_embed
    tensors: dict[str, Tensor] = {
        "embedding/kernel": embed.proj.weight.permute(2, 3, 1, 0),
        "embedding/bias": embed.proj.bias,
        **(stem_of(embed.backbone) if hasattr(embed, "backbone") else {}),
        **under("Transformer", norm("encoder_norm", model.norm)),
        **(under("MAPHead_0", pool_of(model.attn_pool)) if model.attn_pool else {}),
        **(dense("head", model.head) if model.num_classes else {}),
        ("Transformer/posembed_input/pos_embedding" if classic else "pos_embedding"): model.pos_embed,
    }
    if model.cls_token is not None:
        tensors["cls"] = model.cls_token
    blocks = [block_of(block) for block in model.blocks]
    if not classic:
        blocks = [
            {re.sub("|".join(_BIG_VISION), lambda m: _BIG_VISION[m[0]], n): v for n, v in b.items()} for b in blocks
        ]
    if layout == "scan":
        tensors |= under("Transformer/encoderblock", {n: torch.stack([b[n] for b in blocks]) for n in blocks[0]})
    else:
        for i, block in enumerate(blocks):
            tensors |= under(f"Transformer/encoderblock_{i}", block)
    arrays = {prefix + name: value.detach().numpy() for name, value in tensors.items()}
    if dtype == "bfloat16":  # as JAX writes it: two bytes of no NumPy type
        arrays = {
            n: (torch.from_numpy(v.copy()).bfloat16().view(torch.int16).numpy().view("V2")) for n, v in arrays.items()
        }
    np.savez(path, **arrays)
    return path


def flax_standardised(self: StdConv2dSame, x: Tensor) -> Tensor:
    """Flax's StdConv: (w − mean) / (std + 1e-5)."""
    mean, std = self.weight.mean((1, 2, 3), keepdim=True), self.weight.std((1, 2, 3), keepdim=True, correction=0)
    return conv2d_same(
        x, (self.weight - mean) / (std + 1e-5), None, self.stride, self.padding, self.dilation, self.groups
    )


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_timm_computes_the_same(
    variant: str, layout: str, randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    options = {**SIZES, **VARIANTS[variant], "no_embed_class": layout != "classic"}
    theirs, images = randomise(VisionTransformer(**options)), torch.randn(2, 3, 32, 32)
    path = export(theirs, tmp_path / "in.npz", layout)
    VisionTransformer(**options).load_pretrained(str(path))  # it is such a file
    found = open_checkpoint(path)
    assert found.dialect == "google"
    ours = found.load().eval()
    with torch.no_grad():
        close(ours(images), theirs(images))
    model = Description.of(ours, found.preprocess)
    if layout != "classic" and variant == "token":
        with pytest.raises(UserError, match="class token without position"):
            foreign.save("google", tmp_path / "out.npz", model, ours.state_dict())
        return
    foreign.save("google", tmp_path / "out.npz", model, ours.state_dict())
    written = VisionTransformer(**options | {"no_embed_class": False}).eval()
    for parameter in written.parameters():
        nn.init.constant_(parameter, torch.nan)
    written.load_pretrained(str(tmp_path / "out.npz"))
    with torch.no_grad():
        assert torch.equal(written(images), theirs(images))


@pytest.mark.parametrize("prefix", ["opt/target/", "params/", "params/img/"])
def test_prefixes_and_other_towers(
    prefix: str, randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs, images = randomise(VisionTransformer(**SIZES | VARIANTS["map"])), torch.randn(2, 3, 32, 32)
    path = export(theirs, tmp_path / "in.npz", "big_vision", prefix)
    if prefix == "params/img/":
        more = {"params/t": np.ones(1), "params/txt/Embed_0/embedding": np.ones((4, 4))}
        np.savez(path, **np.load(path), **more)
    with torch.no_grad():
        close(open_checkpoint(path).load().eval()(images), theirs(images))


def test_hidden_states_and_attention_agree(
    randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs, images = randomise(VisionTransformer(**SIZES)), torch.randn(2, 3, 32, 32)
    ours, maps = open_checkpoint(export(theirs, tmp_path / "in.npz")).load().eval(), []
    for block in theirs.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, given, made: maps.append(made))
    with torch.no_grad():
        states = theirs.forward_intermediates(images, return_prefix_tokens=True, intermediates_only=True)
        for mine, (patches, prefix) in zip(ours.vit.intermediates(images), states, strict=True):
            close(mine.map, patches)
            close(mine.prefix, prefix)
        for mine, other in zip(ours.vit.attentions(images), maps, strict=True):
            close(mine, other)


@pytest.mark.parametrize("layers", [(), (2, 1), (1, 2, 1)])
def test_hybrids(
    layers: tuple[int, ...], randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(StdConv2dSame, "forward", flax_standardised)
    options = {"stem_type": "same", "preact": False, "conv_layer": StdConv2dSame}

    def build() -> nn.Module:
        backbone = (
            ResNetV2(layers, channels=(128, 256, 512), num_classes=0, global_pool="", stem_chs=32, **options)
            if layers
            else create_resnetv2_stem(3, 32, **options)
        )
        model = VisionTransformer(
            **SIZES | {"img_size": 64, "patch_size": 1 if layers else 8}, embed_layer=_partial(backbone)
        )
        for module in model.modules():
            if isinstance(module, GroupNormAct):
                module.eps = 1e-6
        return model

    theirs, images = randomise(build()), torch.randn(2, 3, 64, 64)
    for module in theirs.modules():
        if isinstance(module, StdConv2dSame):
            nn.init.normal_(module.weight, std=2e-3)  # small enough for eps to count
    found = open_checkpoint(export(theirs, tmp_path / "in.npz"))
    assert found.task.vit.config.embed.layers == layers
    assert found.task.vit.config.patch_size[0] == {0: 32, 2: 8, 3: 16}[len(layers)]
    ours = found.load().eval()
    with torch.no_grad():
        close(ours(images), theirs(images))
    foreign.save("google", tmp_path / "out.npz", Description.of(ours, None), ours.state_dict())
    written = build().eval()
    written.load_pretrained(str(tmp_path / "out.npz"))
    with torch.no_grad():
        assert torch.equal(written(images), theirs(images))


def _partial(backbone: nn.Module) -> Callable[..., nn.Module]:
    return lambda **options: HybridEmbed(backbone, **options)


def test_pre_logits(randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path) -> None:
    theirs, images = randomise(VisionTransformer(**SIZES)), torch.randn(2, 3, 32, 32)
    path = export(theirs, tmp_path / "in.npz")
    arrays, draw = dict(np.load(path)), np.random.default_rng(0)
    kernel, bias, head = draw.normal(size=(32, 24)), draw.normal(size=24), draw.normal(size=(24, 5))
    arrays |= {
        "pre_logits/kernel": kernel.astype("f4"),
        "pre_logits/bias": bias.astype("f4"),
        "head/kernel": head.astype("f4"),
    }
    np.savez(path, **arrays)
    found = open_checkpoint(path)
    ours = found.load().eval()
    with torch.no_grad():
        hidden = torch.tanh(
            theirs.forward_features(images)[:, 0] @ torch.tensor(arrays["pre_logits/kernel"])
            + torch.tensor(arrays["pre_logits/bias"])
        )
        close(ours(images), hidden @ torch.tensor(arrays["head/kernel"]) + theirs.head.bias)
    foreign.save("google", tmp_path / "out.npz", Description.of(ours, None), ours.state_dict())
    written = np.load(tmp_path / "out.npz")
    assert {n: v.shape for n, v in written.items()} == {n: v.shape for n, v in arrays.items()}
    assert all(np.array_equal(written[n], v) for n, v in arrays.items())


def test_at_another_size_positions_are_resampled_alike(
    randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs = randomise(VisionTransformer(**SIZES))
    ours = open_checkpoint(export(theirs, tmp_path / "in.npz")).load()
    grid = theirs.pos_embed[0, 1:].reshape(4, 4, -1).detach().numpy()
    expected = ndimage.zoom(grid, (7 / 4, 7 / 4, 1), order=1)  # as both of Google's repositories do it
    close(ours.vit.positions.on_grid((7, 7))[0, 1:].detach(), torch.from_numpy(expected).flatten(0, 1))


def test_fixed_positions_and_the_size_beside(
    randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs = randomise(VisionTransformer(**SIZES | VARIANTS["mean"]))
    path = export(theirs, tmp_path / "in.npz", "big_vision")
    arrays = dict(np.load(path))
    del arrays["pos_embedding"]
    np.savez(path, **arrays)
    (tmp_path / "config.json").write_text('{"image_size": 32}')
    found = open_checkpoint(path)
    assert any("sincos2d" in line for line in found.assumed)
    y, x = np.mgrid[:4, :4]
    omega = 1 / 10_000 ** (np.arange(8) / 7)
    y, x = (each.reshape(-1, 1) * omega for each in (y, x))
    fixed = np.concatenate([np.sin(x), np.cos(x), np.sin(y), np.cos(y)], axis=1)
    theirs.pos_embed.data = torch.from_numpy(fixed)[None].float()
    images = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        close(found.load().eval()(images), theirs(images))


def test_half_precision_and_transposed_arrays(randomise: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    theirs = randomise(VisionTransformer(**SIZES))
    half = open_checkpoint(export(theirs, tmp_path / "half.npz", "scan", dtype="bfloat16")).load().state_dict()
    theirs.bfloat16()
    assert torch.equal(half["vit.blocks.1.mlp.fc1.weight"].bfloat16(), theirs.blocks[1].mlp.fc1.weight)
    theirs.float()
    path = export(theirs, tmp_path / "in.npz")
    np.savez(tmp_path / "other.npz", **{name: np.asfortranarray(value) for name, value in np.load(path).items()})
    first, second = (open_checkpoint(each).load().state_dict() for each in (path, tmp_path / "other.npz"))
    assert all(torch.equal(first[name], value) for name, value in second.items())


def test_numbers_that_torch_has_not_are_refused(tmp_path: Path) -> None:
    for odd in (np.ones(3, np.longdouble), np.ones(3, ">f4"), np.ones(3, "V4"), np.ones(3, "U2")):
        np.savez(tmp_path / "in.npz", **{"embedding/kernel": odd})
        with pytest.raises(UserError, match="cannot be read"):
            open_checkpoint(tmp_path / "in.npz")


def test_labels_and_preprocessing_beside(randomise: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    export(randomise(VisionTransformer(**SIZES)), tmp_path / "in.npz")
    plain = open_checkpoint(tmp_path / "in.npz")
    assert plain.preprocess.mean == plain.preprocess.std == (0.5,)
    assert (plain.preprocess.resize, plain.preprocess.interpolation) == ("square", "bilinear")
    assert any("preprocessing" in line for line in plain.assumed)
    assert any("classes" in line for line in plain.assumed)
    (tmp_path / "classes.json").write_text('["ant", "bee", "cat", "dog", "eel"]')
    found = open_checkpoint(tmp_path / "in.npz")
    foreign.save("google", tmp_path / "out", Description.of(found.task, found.preprocess), found.load().state_dict())
    again = open_checkpoint(tmp_path / "out")
    assert not again.assumed
    assert again.task.config == found.task.config
    assert again.task.config.classes[4] == "eel"
    assert again.preprocess.resize == "square"


def test_what_google_lacks_is_named(tmp_path: Path, randomise: Callable[[nn.Module], nn.Module]) -> None:
    found = open_checkpoint(export(randomise(VisionTransformer(**SIZES)), tmp_path / "in.npz"))
    model = Description.of(found.task, None)
    for change, words in (
        ({"mlp": "gelu"}, "exact GELU"),
        ({"norm_eps": 1e-5}, "eps 1e-05"),
        ({"layer_scale": 0.1}, "LayerScale"),
    ):
        vit = found.task.vit.config
        vit = dataclasses.replace(vit, block=dataclasses.replace(vit.block, **change))
        other = dataclasses.replace(model, config=dataclasses.replace(found.task.config, model=vit))
        with pytest.raises(UserError, match=words):
            foreign.save("google", tmp_path / "out.npz", other, {})
