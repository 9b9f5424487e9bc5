"""Meta's DINOv2 names, against its equations written out here and against timm's own conversion of its files."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import checkpoint_filter_fn
from torch import Tensor, nn

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import dinov2
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.sizes import resize
from vitrail.tasks import features
from vitrail.vit import ViTConfig

MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "registers": {"num_register_tokens": 4},
    "swiglu": {"ffn_layer": "swiglufused"},
    "swiglu_registers": {"ffn_layer": "swiglufused", "num_register_tokens": 4},
}
TIMM = {
    "plain": "small_patch14",
    "registers": "small_patch14_reg4",
    "swiglu": "giant_patch14",
    "swiglu_registers": "giant_patch14_reg4",
}
OURS: dict[str, dict[str, Any]] = {
    "plain": {},
    "registers": {"registers": 4},
    "swiglu": {"block": {"mlp": "swiglu", "layer_scale": 0.1}},
    "odd": {"mlp_dim": 77, "block": {"layer_scale": 0.1, "qkv_bias": False}, "resampling": "bicubic"},
}


class Scale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(dim))


class Layer(nn.Module):
    """x + γ₁·Attention(N(x)), then x + γ₂·MLP(N(x)); each part's parameters under Meta's name."""

    def __init__(self, dim: int, heads: int, hidden: int, swiglu: bool, bias: bool) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(dim, 1e-6), nn.LayerNorm(dim, 1e-6)
        self.ls1, self.ls2 = Scale(dim), Scale(dim)
        self.attn = nn.ModuleDict({"qkv": nn.Linear(dim, 3 * dim, bias=bias), "proj": nn.Linear(dim, dim)})
        names = ("w12", "w3") if swiglu else ("fc1", "fc2")
        widths = (2 * hidden if swiglu else hidden, hidden)
        self.mlp = nn.ModuleDict({names[0]: nn.Linear(dim, widths[0]), names[1]: nn.Linear(widths[1], dim)})

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.attn["qkv"](self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        weights = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(dim=-1)
        x = x + self.ls1.gamma * self.attn["proj"]((weights @ v).transpose(1, 2).flatten(2))
        y = self.norm2(x)
        if "w12" in self.mlp:
            gate, value = self.mlp["w12"](y).chunk(2, dim=-1)
            return x + self.ls2.gamma * self.mlp["w3"](F.silu(gate) * value)
        return x + self.ls2.gamma * self.mlp["fc2"](F.gelu(self.mlp["fc1"](y)))


class Reference(nn.Module):
    """DINOv2's backbone; the arguments are those of Meta's DinoVisionTransformer."""

    def __init__(
        self,
        img_size: int = 56,
        patch_size: int = 14,
        in_chans: int = 3,
        embed_dim: int = 64,
        depth: int = 2,
        num_heads: int = 1,
        mlp_ratio: float = 3.0,
        ffn_layer: str = "mlp",
        qkv_bias: bool = True,
        init_values: float = 1e-5,
        block_chunks: int = 0,
        num_register_tokens: int = 0,
        interpolate_antialias: bool | None = None,
        interpolate_offset: float | None = None,
    ) -> None:
        super().__init__()
        assert init_values
        assert block_chunks == 0
        swiglu, hidden = ffn_layer == "swiglufused", int(embed_dim * mlp_ratio)
        hidden = (int(hidden * 2 / 3) + 7) // 8 * 8 if swiglu else hidden
        self.grid, registers = img_size // patch_size, num_register_tokens
        self.antialias = bool(registers) if interpolate_antialias is None else interpolate_antialias
        self.offset = (0.0 if registers else 0.1) if interpolate_offset is None else interpolate_offset
        self.cls_token = nn.Parameter(torch.empty(1, 1, embed_dim))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.grid**2, embed_dim))
        self.mask_token = nn.Parameter(torch.empty(1, embed_dim))
        self.register_tokens = nn.Parameter(torch.empty(1, registers, embed_dim)) if registers else None
        self.patch_embed = nn.ModuleDict({"proj": nn.Conv2d(in_chans, embed_dim, patch_size, patch_size)})
        self.blocks = nn.ModuleList(Layer(embed_dim, num_heads, hidden, swiglu, qkv_bias) for _ in range(depth))
        self.norm = nn.LayerNorm(embed_dim, 1e-6)

    def positions(self, height: int, width: int) -> Tensor:
        if height == width == self.grid:
            return self.pos_embed
        table = self.pos_embed[:, 1:].unflatten(1, (self.grid, self.grid)).permute(0, 3, 1, 2)
        if self.offset:
            to: dict[str, Any] = {"scale_factor": [(side + self.offset) / self.grid for side in (height, width)]}
        else:
            to = {"size": (height, width)}
        table = F.interpolate(table, **to, mode="bicubic", antialias=self.antialias)
        return torch.cat((self.pos_embed[:, :1], table.flatten(2).transpose(1, 2)), dim=1)

    def forward(self, images: Tensor) -> Tensor:
        patches = self.patch_embed["proj"](images)
        x = torch.cat((self.cls_token.expand(len(images), -1, -1), patches.flatten(2).transpose(1, 2)), dim=1)
        x = x + self.positions(*patches.shape[-2:])
        if self.register_tokens is not None:
            x = torch.cat((x[:, :1], self.register_tokens.expand(len(x), -1, -1), x[:, 1:]), dim=1)
        for block in self.blocks:
            x = block(x)
        return self.norm(x)[:, 0]


def stored(model: nn.Module, path: Path) -> Path:
    path.parent.mkdir(exist_ok=True)
    save_file(model.state_dict(), path)
    return path


@pytest.mark.parametrize("size", [(56, 56), (84, 84), (42, 98), (28, 28), (518, 14)])
@pytest.mark.parametrize("name", MODELS)
def test_it_computes_metas_equations(
    name: str, size: tuple[int, int], tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    model = randomise(Reference(**MODELS[name]))
    found = open_checkpoint(stored(model, tmp_path / "dinov2.safetensors"))
    assert found.dialect == "dinov2"
    task = found.load().eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model(x)
        close(task(x), expected)
        resize(task, size)
        close(task(x), expected)


@pytest.mark.parametrize("name", MODELS)
def test_timms_conversion_of_the_file_agrees(
    name: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    logging.getLogger("timm").setLevel(logging.ERROR)
    model = randomise(Reference(**MODELS[name]))
    file = stored(model, tmp_path / "dinov2.safetensors")
    args = {"embed_dim": 64, "depth": 2, "num_heads": 1, "img_size": 56}
    hidden = model.state_dict().get("blocks.0.mlp.w12.weight", model.state_dict().get("blocks.0.mlp.fc1.weight"))
    theirs = timm.create_model(f"vit_{TIMM[name]}_dinov2", **args, mlp_ratio=len(hidden) / 64).eval()
    theirs.load_state_dict(checkpoint_filter_fn(load_file(file), theirs))
    task = open_checkpoint(file).load().eval()
    x = torch.randn(2, 3, 56, 56)
    with torch.inference_mode():
        close(task(x), theirs(x))
        layers = theirs.forward_intermediates(x, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True)
        for (patches, prefix), ours in zip(layers, task.vit.intermediates(x), strict=True):
            close(ours.tokens, torch.cat((prefix, patches), dim=1))


@pytest.mark.parametrize("name", OURS)
def test_what_we_write_is_metas(name: str, tmp_path: Path, close: Callable[..., None]) -> None:
    torch.manual_seed(0)
    base = {
        "image_size": 56,
        "patch_size": 14,
        "dim": 48,
        "depth": 2,
        "heads": 3,
        "mlp_dim": 64,
        "block": {"layer_scale": 0.1},
    }
    task = features.Task(features.Config(model=ViTConfig(**{**base, **OURS[name]})))
    for parameter in task.parameters():
        nn.init.normal_(parameter, std=0.2)
    preprocess = PreprocessConfig(size=56, interpolation="bicubic", mean=(0.1, 0.2, 0.3), std=(0.4, 0.5, 0.6))
    foreign.save("dinov2", tmp_path / "out", Description.of(task, preprocess), task.state_dict())
    arguments = json.loads((tmp_path / "out" / "config.json").read_text())
    model = Reference(**arguments).eval()
    model.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    found = open_checkpoint(tmp_path / "out")
    assert found.dialect == "dinov2"
    assert not found.assumed
    assert found.preprocess == preprocess
    again = found.load().eval()
    state = again.state_dict()
    assert state.keys() == task.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in task.state_dict().items())
    for size in (56, 70):
        x = torch.randn(2, 3, size, size)
        with torch.inference_mode():
            close(again(x), model(x))
            close(task(x) if size == 56 else model(x), model(x))


def test_a_file_alone_is_assumed_to_be_metas(tmp_path: Path, randomise: Callable[..., Any]) -> None:
    model = randomise(Reference(img_size=518, embed_dim=384, num_heads=6, mlp_ratio=4))
    found = open_checkpoint(stored(model, tmp_path / "dinov2_vits14_pretrain.safetensors"))
    assert found.task.vit.config.heads == 6
    assert found.task.vit.config.resampling == "bicubic_offset"
    assert found.preprocess == PreprocessConfig(
        size=518, resize="crop", interpolation="bicubic", mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
    )
    assert len(found.assumed) == 2


def test_chunked_blocks_and_files_without_a_mask_token(tmp_path: Path, randomise: Callable[..., Any]) -> None:
    model = randomise(Reference(num_register_tokens=2))
    state = {key.replace("blocks.", "blocks.0.", 1): v for key, v in model.state_dict().items() if key != "mask_token"}
    assert "blocks.0.1.norm1.weight" in state
    save_file(state, tmp_path / "teacher.safetensors")
    found = open_checkpoint(tmp_path / "teacher.safetensors")
    x = torch.randn(1, 3, 56, 56)
    assert torch.allclose(found.load().eval()(x), model(x), atol=1e-5)


def test_without_what_is_metas_own_it_is_timms(tmp_path: Path, randomise: Callable[..., Any]) -> None:
    state = randomise(Reference()).state_dict()
    del state["mask_token"]
    save_file(state, tmp_path / "dinov2.safetensors")
    assert open_checkpoint(tmp_path / "dinov2.safetensors").dialect == "timm"


@pytest.mark.parametrize(
    ("config", "what"),
    [
        ({"block": {"layer_scale": None}}, "without LayerScale"),
        ({"block": {"layer_scale": 0.1, "norm_eps": 1e-5}}, "eps 1e-05"),
        ({"mlp_dim": 60, "block": {"layer_scale": 0.1, "mlp": "swiglu"}}, "no multiple of 8"),
        ({"image_size": (56, 28), "block": {"layer_scale": 0.1}}, "no square"),
        ({"class_position": False, "block": {"layer_scale": 0.1}}, "class token without position"),
    ],
)
def test_what_meta_has_not_is_named(config: dict[str, Any], what: str) -> None:
    base = {"image_size": 56, "patch_size": 14, "dim": 32, "depth": 1, "heads": 2, "mlp_dim": 64}
    task = features.Task(features.Config(model=ViTConfig(**{**base, **config})))
    assert what in str(dinov2.lacks(Description.of(task, None)))


def test_an_unknown_interpolation_is_refused(tmp_path: Path, randomise: Callable[..., Any]) -> None:
    stored(randomise(Reference()), tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps({"interpolate_antialias": True, "interpolate_offset": 0.1}))
    with pytest.raises(UserError, match="interpolate_offset"):
        open_checkpoint(tmp_path)
