"""timm's VisionTransformer: the real library computes what we compute, from its files and from ours."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import _registry
from timm.models.vision_transformer import Block
from timm_models import MODELS, OURS, create, images, stored, task_of

from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign, pooled, timm_config
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import timm as dialect
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.sizes import resize


@pytest.mark.parametrize("name", MODELS)
def test_their_model_gives_the_same_here(
    name: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    model = randomise(create(name))
    found = open_checkpoint(stored(model, tmp_path))
    assert found.dialect == "timm"
    assert not [line for line in found.assumed if not line.startswith(("classes", "head: CLIP"))]
    task = found.load().eval()
    with torch.inference_mode():
        close(task(images(model)), model(images(model)))
    assert task.vit.config.resampling == "bicubic_antialias"


@pytest.mark.parametrize("name", MODELS)
def test_what_we_write_of_it_is_the_same_there(
    name: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    model = randomise(create(name))
    found = open_checkpoint(stored(model, tmp_path / "theirs"))
    task = found.load().eval()
    foreign.save("timm", tmp_path / "ours", Description.of(task, found.preprocess), task.state_dict())
    again = timm.create_model(f"local-dir:{tmp_path / 'ours'}", pretrained=True).eval()
    with torch.inference_mode():
        close(again(images(model)), model(images(model)))
    assert {n: tuple(p.shape) for n, p in again.named_parameters()} == {
        n: tuple(p.shape) for n, p in model.named_parameters()
    }


@pytest.mark.parametrize("name", OURS)
def test_our_model_gives_the_same_there(name: str, tmp_path: Path, close: Callable[..., None]) -> None:
    task = task_of(**OURS[name])
    preprocess = PreprocessConfig(size=task.vit.config.image_size)
    foreign.save("timm", tmp_path / "out", Description.of(task, preprocess), task.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        theirs = timm.create_model(f"local-dir:{tmp_path / 'out'}", pretrained=True).eval()
    x = torch.randn(2, 3, *task.vit.config.image_size)
    with torch.inference_mode():
        close(task(x), theirs(x))
    again = open_checkpoint(tmp_path / "out")
    assert not again.assumed
    assert again.preprocess == preprocess or again.preprocess.mean == (0.5,) * 3
    state = again.load().state_dict()
    assert state.keys() == task.state_dict().keys()
    assert all(torch.equal(state[key], value) for key, value in task.state_dict().items())


@pytest.mark.parametrize("name", ["token", "deit3", "dinov2_registers", "placed_registers_cls", "hybrid_root", "clip"])
def test_layers_and_attention_are_theirs(
    name: str, tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    model = randomise(create(name))
    task = open_checkpoint(stored(model, tmp_path)).load().eval()
    x = images(model)
    seen: list[torch.Tensor] = []
    for block in model.blocks:
        block.attn.fused_attn = False
        block.attn.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    with torch.inference_mode():
        layers = model.forward_intermediates(x, output_fmt="NLC", return_prefix_tokens=True, intermediates_only=True)
        maps, ours = task.vit.attentions(x), task.vit.intermediates(x)
    for (patches, prefix), mine in zip(layers, ours, strict=True):
        close(mine.tokens, torch.cat((prefix, patches), dim=1))
    for theirs, mine in zip(seen, maps, strict=True):
        close(mine, theirs)


@pytest.mark.parametrize("size", [(48, 48), (48, 80), (16, 32)])
@pytest.mark.parametrize("name", ["token", "deit3", "distilled", "placed_registers_cls", "registers_gap"])
def test_another_size_is_resampled_by_timms_rule(
    name: str, size: tuple[int, int], tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    model = randomise(create(name, dynamic_img_size=True))
    found = open_checkpoint(stored(model, tmp_path))
    task = found.load().eval()
    x = torch.randn(2, 3, *size)
    with torch.no_grad():
        expected = model(x)
        close(task(x), expected)
        resize(task, size)
        close(task(x), expected)
    assert task.vit.config.image_size == size


def _without_size(name: str) -> str:
    return re.sub(r"_\d+$", "", name)


def _plain_vits() -> list[str]:
    """One name for each but the image size."""
    modules = ("vision_transformer", "vision_transformer_hybrid", "deit")
    names = [name for name in timm.list_models() if _registry._model_to_module[name] in modules]
    return list({_without_size(name): name for name in names}.values())


def test_every_architecture_of_timm_is_read_or_refused(
    tmp_path: Path, randomise: Callable[..., Any], close: Callable[..., None]
) -> None:
    """All at a small width, as timm itself saves them: never a wrong model silently."""
    read = set()
    for name in _plain_vits():
        patch = 32 if "patch32" in name or "_s32" in name or "_r_" in name or "26d" in name else 16
        patch = 14 if "patch14" in name else 8 if "patch8" in name else patch
        args = {"embed_dim": 96, "depth": 1, "num_heads": 2, "img_size": 2 * patch}
        args |= {"img_size": 64} if "resnet" in name else {}
        args |= {"img_size": 64, "embed_dim": 768} if "mci" in name else {}
        model = randomise(timm.create_model(name, **args, num_classes=7))
        try:
            task = open_checkpoint(stored(model, tmp_path / name)).load().eval()
        except UserError:
            continue
        with torch.inference_mode():
            close(task(images(model)), model(images(model)))
        read.add(_without_size(name))
    assert len(read) > 90
    assert {_without_size(name) for name in timm_config._NAMES.split()} <= read


def test_an_architectures_name_tells_what_its_tensors_do_not() -> None:
    """The hub's older configs have no ``model_args``: the full-size models, without a number of theirs."""
    checked = set()
    for name in _plain_vits():
        with torch.device("meta"):
            model = timm.create_model(name, depth=2 if "18x2" in name else 1)
        cfg = {k: v for k, v in model.pretrained_cfg.items() if v is not None}
        config = {"architecture": name, "global_pool": model.global_pool, "pretrained_cfg": cfg}
        shapes = {dialect.canonical(key): tuple(value.shape) for key, value in model.state_dict().items()}
        try:
            vit = pooled.read(dialect.describe(shapes, Beside(config=json.loads(json.dumps(config))))).vit
        except (UserError, KeyError):
            continue
        block: Block = model.blocks[0]
        assert vit.heads == block.attn.num_heads, name
        assert vit.block.norm_eps == block.norm1.eps, name
        act = {"GELU": "gelu", "GELUTanh": "gelu_tanh", "QuickGELU": "quick_gelu", "SiLU": "swiglu"}
        assert vit.block.mlp == act[type(block.mlp.act).__name__], name
        assert vit.image_size == model.patch_embed.img_size, name
        assert vit.class_position == (not model.no_embed_class), name
        checked.add(_without_size(name))
    assert len(checked) > 90
    assert {_without_size(name) for name in timm_config._NAMES.split()} <= checked
