"""vit-pytorch's ViT and SimpleViT, both ways: against models of a few lines with its equations and tensor names.

The package itself is no test dependency. Where it is installed, the same comparison runs with it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign, pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import vit_pytorch as dialect
from vitrail.errors import UserError

SIZES: dict[str, Any] = {
    "image_size": 32, "patch_size": 8, "num_classes": 5, "dim": 32, "depth": 2, "heads": 3, "mlp_dim": 48,
    "dim_head": 16, "channels": 3,
}  # fmt: skip


class Reference(nn.Module):
    """x ← x + attention(x), x ← x + mlp(x) with the names of vit-pytorch."""

    def __init__(self, *, simple: bool = False, pool: str = "cls", **sizes: Any) -> None:
        super().__init__()
        self.simple, self.heads, self.patch, self.grid = simple, sizes["heads"], sizes["patch_size"], 0
        dim, inner, hidden = sizes["dim"], sizes["heads"] * sizes["dim_head"], sizes["mlp_dim"]
        pixels = sizes["channels"] * self.patch**2
        self.grid = sizes["image_size"] // self.patch
        self.to_patch_embedding = nn.Sequential(
            nn.Identity(), nn.LayerNorm(pixels), nn.Linear(pixels, dim), nn.LayerNorm(dim)
        )
        if not simple:
            self.cls_token = nn.Parameter(torch.empty(1, dim))
            self.pos_embedding = nn.Parameter(torch.empty(self.grid**2 + 1, dim))
        self.transformer = nn.Module()
        self.transformer.layers = nn.ModuleList()
        for _ in range(sizes["depth"]):
            attention, mlp = nn.Module(), nn.Module()
            attention.norm = nn.LayerNorm(dim)
            attention.to_qkv = nn.Linear(dim, 3 * inner, bias=False)
            single = self.heads == 1 and inner == dim
            out = nn.Linear(inner, dim, bias=not simple)
            attention.to_out = out if simple else nn.Identity() if single else nn.Sequential(out, nn.Identity())
            gap = [] if simple else [nn.Identity()]
            mlp.net = nn.Sequential(
                nn.LayerNorm(dim), nn.Linear(dim, hidden), nn.GELU(), *gap, nn.Linear(hidden, dim), *gap
            )
            self.transformer.layers.append(nn.ModuleList([attention, mlp]))
        self.transformer.norm = nn.LayerNorm(dim)
        if sizes["num_classes"]:
            self.add_module("linear_head" if simple else "mlp_head", nn.Linear(dim, sizes["num_classes"]))

    def attend(self, attention: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        qkv = attention.to_qkv(attention.norm(x)).chunk(3, dim=-1)
        q, k, v = (each.unflatten(-1, (self.heads, -1)).transpose(1, 2) for each in qkv)
        weights = (q @ k.mT * q.shape[-1] ** -0.5).softmax(-1)
        return attention.to_out((weights @ v).transpose(1, 2).flatten(2)), weights

    def trace(self, images: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        p, n = self.patch, self.grid
        patches = images.unflatten(3, (n, p)).unflatten(2, (n, p)).permute(0, 2, 4, 3, 5, 1)  # b (h w) (p1 p2 c)
        x = self.to_patch_embedding(patches.flatten(3).flatten(1, 2))
        if self.simple:
            y_x = np.mgrid[:n, :n].reshape(2, -1, 1) / 10_000 ** (np.arange(x.shape[-1] // 4) / (x.shape[-1] // 4 - 1))
            y, x_ = torch.from_numpy(y_x)
            x = x + torch.cat((x_.sin(), x_.cos(), y.sin(), y.cos()), dim=1).float()
        else:
            x = torch.cat((self.cls_token.expand(len(x), 1, -1), x), dim=1) + self.pos_embedding
        states, maps = [], []
        for attention, mlp in self.transformer.layers:
            out, weights = self.attend(attention, x)
            x = x + out
            x = x + mlp.net(x)
            states.append(x)
            maps.append(weights)
        return states, maps

    def forward(self, images: Tensor) -> Tensor:
        x = self.transformer.norm(self.trace(images)[0][-1])
        x = x.mean(1) if self.simple else x[:, 0]
        head = getattr(self, "linear_head" if self.simple else "mlp_head", nn.Identity())
        return head(x)


def store(
    model: nn.Module, folder: Path, config: dict[str, Any] | None = None, name: str = "model.safetensors"
) -> Path:
    save_file(model.state_dict(), folder / name)
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config))
    return folder / name


def real(simple: bool) -> Callable[..., nn.Module]:
    package = pytest.importorskip("vit_pytorch", reason="vit-pytorch is not installed")
    return package.SimpleViT if simple else package.ViT


@pytest.mark.parametrize("package", [False, True])
@pytest.mark.parametrize("simple", [False, True])
def test_both_compute_the_same(
    simple: bool, package: bool, randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    build = real(simple) if package else (lambda **sizes: Reference(simple=simple, **sizes))
    theirs, images = randomise(build(**SIZES)), torch.randn(2, 3, 32, 32)
    found = open_checkpoint(store(theirs, tmp_path, SIZES))
    assert found.dialect == "vit_pytorch"
    ours = found.load().eval()
    with torch.no_grad():
        close(ours(images), theirs(images))
    foreign.save("vit_pytorch", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    written = build(**json.loads((tmp_path / "out" / "config.json").read_text())).eval()
    written.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(written(images), theirs(images))


@pytest.mark.parametrize("simple", [False, True])
def test_hidden_states_and_attention_agree(
    simple: bool, randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs, images = randomise(Reference(simple=simple, **SIZES)), torch.randn(2, 3, 32, 32)
    ours = open_checkpoint(store(theirs, tmp_path, SIZES)).load().eval()
    with torch.no_grad():
        states, maps = theirs.trace(images)
        for mine, other in zip(ours.vit.intermediates(images), states, strict=True):
            close(mine.tokens, other)
        for weights, other in zip(ours.vit.attentions(images), maps, strict=True):
            close(weights, other)


@pytest.mark.parametrize("simple", [False, True])
def test_without_a_config_heads_have_64_channels(
    simple: bool, randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    sizes = SIZES | {"dim_head": 64, "image_size": 224, "patch_size": 56}
    theirs, images = randomise(Reference(simple=simple, **sizes)), torch.randn(1, 3, 224, 224)
    found = open_checkpoint(store(theirs, tmp_path))
    assert any("attention heads: 3 of 64" in line for line in found.assumed)
    assert any("image size" in line for line in found.assumed) == simple
    with torch.no_grad():
        close(found.load().eval()(images), theirs(images))


def test_heads_that_nothing_tells_are_asked_for(randomise: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    store(randomise(Reference(**SIZES)), tmp_path)
    with pytest.raises(UserError, match="put heads in config"):
        open_checkpoint(tmp_path)


def test_one_head_without_output_projection(
    randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs, images = randomise(Reference(**SIZES | {"heads": 1, "dim_head": 32})), torch.randn(2, 3, 32, 32)
    found = open_checkpoint(store(theirs, tmp_path))
    ours = found.load().eval()
    with torch.no_grad():
        close(ours(images), theirs(images))
    with pytest.raises(UserError, match="attention output without bias"):
        foreign.save("vit_pytorch", tmp_path / "out", Description.of(ours, None), ours.state_dict())


@pytest.mark.parametrize("simple", [False, True])
def test_old_versions(
    simple: bool, randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs, images = randomise(Reference(simple=simple, **SIZES)), torch.randn(2, 3, 32, 32)
    head = "linear_head" if simple else "mlp_head"
    state = {}
    for name, value in theirs.state_dict().items():
        name = name.replace("transformer.norm.", f"{head}.0.") if "transformer.norm" in name else name
        name = name.replace(f"{head}.weight", f"{head}.1.weight").replace(f"{head}.bias", f"{head}.1.bias")
        if not simple:
            name = name.replace(".0.to_", ".0.fn.to_").replace(".1.net.0.", ".1.norm.")
            name = name.replace(".1.net.1.", ".1.fn.net.0.").replace(".1.net.4.", ".1.fn.net.3.")
            value = value[None] if name in ("cls_token", "pos_embedding") else value
        state[name] = value
    save_file(state, tmp_path / "model.safetensors")
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    with torch.no_grad():
        last = theirs.trace(images)[0][-1]
        pooled = theirs.transformer.norm(last.mean(1) if simple else last[:, 0])
        close(open_checkpoint(tmp_path).load().eval()(images), getattr(theirs, head)(pooled))


def test_patches_without_norms(
    randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs, images = randomise(Reference(**SIZES | {"channels": 1})), torch.randn(2, 1, 32, 32)
    embedding = theirs.to_patch_embedding
    theirs.to_patch_embedding = nn.Sequential(nn.Identity(), embedding[2])
    found = open_checkpoint(store(theirs, tmp_path, {"heads": 3}))
    assert found.task.vit.config.channels == 1
    with torch.no_grad():
        close(found.load().eval()(images), theirs(images))


def test_pooling_of_tokens(tmp_path: Path) -> None:
    shapes = {name: tuple(value.shape) for name, value in Reference(**SIZES).state_dict().items()}
    with pytest.raises(UserError, match="counts the class token"):
        dialect.describe(shapes, Beside(config=SIZES | {"pool": "mean"}))
    new = shapes | {"cls_token": (0, 32), "pos_embedding": (16, 32)}  # how versions since 1.12 average
    model = pooled.read(dialect.describe(new, Beside(config=SIZES | {"pool": "mean"})))
    assert (model.pool, model.vit.class_token, model.vit.image_size) == ("mean", False, (32, 32))


def test_the_mean_of_all_tokens_is_the_packages(
    randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    theirs, images = randomise(real(False)(**SIZES, pool="mean")), torch.randn(2, 3, 32, 32)
    found = open_checkpoint(store(theirs, tmp_path, SIZES | {"pool": "mean"}))
    ours = found.load().eval()
    with torch.no_grad():
        close(ours(images), theirs(images))
    foreign.save("vit_pytorch", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    written = real(False)(**json.loads((tmp_path / "out" / "config.json").read_text())).eval()
    written.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(written(images), theirs(images))


def test_a_rectangle(randomise: Callable[[nn.Module], nn.Module], tmp_path: Path) -> None:
    first = open_checkpoint(store(randomise(Reference(**SIZES)), tmp_path, SIZES | {"image_size": [16, 64]}))
    assert first.task.vit.config.image_size == (16, 64)
    foreign.save(
        "vit_pytorch", tmp_path / "out", Description.of(first.task, first.preprocess), first.load().state_dict()
    )
    again = open_checkpoint(tmp_path / "out")
    assert again.task.config == first.task.config
    assert (again.preprocess.size, again.preprocess.resize) == ((16, 64), "square")
    assert not again.assumed


@pytest.mark.parametrize("package", [False, True])
def test_without_a_head(
    package: bool, randomise: Callable[[nn.Module], nn.Module], close: Callable[..., None], tmp_path: Path
) -> None:
    sizes, images = SIZES | {"num_classes": 0}, torch.randn(2, 3, 32, 32)
    build = real(simple=False) if package else Reference
    theirs = randomise(build(**sizes))
    found = open_checkpoint(store(theirs, tmp_path, sizes))
    ours = found.load().eval()
    assert ours.name == "features"
    with torch.no_grad():
        close(ours(images), theirs(images)[:, 0] if package else theirs(images))
    foreign.save("vit_pytorch", tmp_path / "out", Description.of(ours, found.preprocess), ours.state_dict())
    written = build(**json.loads((tmp_path / "out" / "config.json").read_text())).eval()
    written.load_state_dict(load_file(tmp_path / "out" / "model.safetensors"))
    with torch.no_grad():
        assert torch.equal(written(images), theirs(images))
