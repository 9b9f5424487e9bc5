"""Every dialect keeps the contract: a model that it can hold goes there and back to the bit.

What the libraries themselves compute is compared in each dialect's own file.
"""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

import pytest
import torch

from vitrail import registry
from vitrail.build import open_checkpoint
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.conv_stem import ConvStemConfig
from vitrail.tasks import Task, classification, features
from vitrail.vit import ViTConfig

DIALECTS = foreign.names()
BASE: dict[str, Any] = {
    "image_size": 32, "patch_size": 16, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64,
}  # fmt: skip
CLIP = {"embed": {"kind": "patch", "bias": False}, "pre_norm": True}
BEIT = {"block": {"layer_scale": 0.1, "key_bias": False}}
DUAL = {"embed": {"kind": "patch", "norm": True}}
R50 = {"kind": "resnet", "layers": (1, 1), "width": 32}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "wide_heads": {"block": {"head_dim": 32}},
    "tanh": {"block": {"mlp": "gelu_tanh"}},
    "no_qkv_bias": {"block": {"qkv_bias": False}},
    "mean": {"pool": "mean", "final_norm": False, "head": {"norm": True}},
    "mean_after_norm": {"pool": "mean"},
    "no_class_token": {"class_token": False, "pool": "mean"},
    "attention_pool": {"class_token": False, "pool": "attention", "block": {"mlp": "gelu_tanh"}},
    "layer_scale": {"block": {"layer_scale": 0.1}},
    "deit3": {"block": {"layer_scale": 0.1}, "class_position": False},
    "distilled": {"distillation_token": True, "pool": "cls_distillation", "head": {"distilled": True}},
    "distilled_cls": {"distillation_token": True},
    "registers": {"registers": 3, "block": {"layer_scale": 0.1}, "class_position": False},
    "dinov2": {"registers": 3, "block": {"layer_scale": 0.1}},
    "dinov2_linear": {"block": {"layer_scale": 0.1}, "pool": "cls_mean"},
    "swiglu": {"block": {"layer_scale": 0.1, "mlp": "swiglu"}},
    "clip": {**CLIP, "block": {"mlp": "quick_gelu", "norm_eps": 1e-5}},
    "clip_mean": {**CLIP, "pool": "mean", "final_norm": False},
    "beit": {**BEIT, "positions": "relative", "pool": "mean", "final_norm": False, "head": {"norm": True}},
    "beit_cls": {**BEIT, "positions": "relative"},
    "pre_logits": {"head": {"hidden": 24}},
    "tanh_pre_logits": {"block": {"mlp": "gelu_tanh"}, "head": {"hidden": 24}},
    "tanh_mean": {"block": {"mlp": "gelu_tanh"}, "class_token": False, "pool": "mean"},
    "flax_hybrid": {"block": {"mlp": "gelu_tanh"}, "embed": {**R50, "weight_eps_of": "deviation"}},
    "dual_patch_norm": {**DUAL, "block": {"qkv_bias": False, "norm_eps": 1e-5, "head_dim": 8}},
    "simple_vit": {
        **DUAL,
        "class_token": False,
        "pool": "mean",
        "positions": "sincos_2d",
        "block": {"qkv_bias": False, "out_bias": False, "norm_eps": 1e-5},
    },
    "small_patches": {"image_size": 24, "patch_size": 8},
    "rectangle": {"image_size": (32, 48)},
    "grey": {"channels": 1},
}
PREPROCESS = {"resize": "crop", "crop_pct": 0.9, "interpolation": "bicubic", "mean": (0.485, 0.456, 0.406)}


def describe(name: str, *, labels: bool = True) -> Description:
    """A model of :data:`MODELS`, without weights."""
    options = dict(MODELS[name])
    rest = {key: options.pop(key) for key in ("pool", "head") if key in options}
    vit = ViTConfig(**{**BASE, **options})
    square = vit.image_size[0] == vit.image_size[1]
    settings = {"size": vit.image_size, "channels": vit.channels}
    preprocess = PreprocessConfig(**settings, **(PREPROCESS if square and vit.channels == 3 else {}))
    if labels:
        config = classification.Config(model=vit, classes=("ant", "bee", "cat"), **rest)
        return Description("classification", config, preprocess)
    return Description("features", features.Config(model=vit, **rest), preprocess)


def build(name: str, *, labels: bool = True) -> tuple[Task, PreprocessConfig]:
    """A task of :data:`MODELS` with random weights."""
    torch.manual_seed(0)
    description = describe(name, labels=labels)
    task: Task = registry.load("tasks", description.task).Task(description.config)
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    assert description.preprocess is not None
    return task.eval(), description.preprocess


# Descriptions alone decide on the pairs: weights would be drawn in every process that collects this file.
PAIRS = [(dialect, name) for dialect in DIALECTS for name in MODELS if foreign.lacks(dialect, describe(name)) is None]


@pytest.mark.parametrize(("dialect", "name"), PAIRS)
def test_a_model_goes_there_and_back_to_the_bit(dialect: str, name: str, tmp_path: Path) -> None:
    task, preprocess = build(name)
    foreign.save(dialect, tmp_path / "out", Description.of(task, preprocess), task.state_dict())
    found = open_checkpoint(tmp_path / "out")
    assert found.dialect == dialect
    again = found.load().eval()
    assert {n: tuple(v.shape) for n, v in again.state_dict().items()} == {
        n: tuple(v.shape) for n, v in task.state_dict().items()
    }
    assert all(torch.equal(again.state_dict()[n], v) for n, v in task.state_dict().items())
    images = torch.randn(2, task.vit.config.channels, *task.vit.config.image_size)
    assert torch.equal(again(images), task(images))


@pytest.mark.parametrize(("dialect", "name"), [pair for pair in PAIRS if pair[1] != "distilled"])  # that is its head
def test_without_a_head_too(dialect: str, name: str, tmp_path: Path) -> None:
    task, preprocess = build(name, labels=False)
    model = Description.of(task, preprocess)
    if foreign.lacks(dialect, model) is not None:
        with pytest.raises(UserError, match="which this model has"):
            foreign.save(dialect, tmp_path / "out", model, task.state_dict())
        return
    foreign.save(dialect, tmp_path / "out", model, task.state_dict())
    again = open_checkpoint(tmp_path / "out").load().eval()
    images = torch.randn(2, task.vit.config.channels, *task.vit.config.image_size)
    assert torch.equal(again(images), task(images))


@pytest.mark.parametrize("name", MODELS)
def test_through_any_two_dialects_nothing_changes(name: str, tmp_path: Path) -> None:
    task, preprocess = build(name)
    able = [dialect for dialect, held_name in PAIRS if held_name == name]
    for first, second in itertools.permutations(able, 2):
        foreign.save(first, tmp_path / f"{first}-{second}", Description.of(task, preprocess), task.state_dict())
        between = open_checkpoint(tmp_path / f"{first}-{second}")
        state = between.load().state_dict()
        config = dataclasses.replace(between.task.config, pool=task.config.pool)
        model = Description(between.task.name, config, between.preprocess)
        foreign.save(second, tmp_path / f"{first}-{second}-2", model, state)
        again = open_checkpoint(tmp_path / f"{first}-{second}-2").load().state_dict()
        assert all(torch.equal(again[n], v) for n, v in task.state_dict().items())


@pytest.mark.parametrize("dialect", DIALECTS)
def test_what_it_cannot_hold_is_named(dialect: str, tmp_path: Path) -> None:
    task, preprocess = build("plain")
    config = dataclasses.replace(task.vit.config, positions="rope_2d", embed=ConvStemConfig())
    config = dataclasses.replace(task.config, model=config)
    model = dataclasses.replace(Description.of(task, preprocess), config=config)
    with pytest.raises(UserError, match=f"{dialect} has no"):
        foreign.save(dialect, tmp_path / "out", model, task.state_dict())
    assert not list(tmp_path.iterdir())
