from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from timm.optim import param_groups_layer_decay
from torch import nn

from vitrail.errors import UserError
from vitrail.tasks.classification import Config, Task
from vitrail.train.optimizer import (
    OptimizerConfig,
    build,
    distance_to_head,
    freeze,
    kernels,
    parameter_groups,
    set_rates,
    train_mode,
)
from vitrail.vit import ViTConfig


def make_task(**model: Any) -> Task:
    shape = {"image_size": 16, "patch_size": 8, "dim": 16, "depth": 3, "heads": 2, "mlp_dim": 32}
    return Task(Config(model=ViTConfig(**{**shape, **model}), classes=("a", "b", "c")))


def by_name(task: nn.Module, groups: list[dict[str, Any]], key: str) -> dict[str, Any]:
    names = {parameter: name for name, parameter in task.named_parameters()}
    return {names[p]: group[key] for group in groups for p in group["params"]}


def test_only_kernels_decay() -> None:
    task = make_task(registers=2, block={"layer_scale": 1e-4, "qk_norm": True}, pre_norm=True)
    decays = by_name(task, parameter_groups(task, OptimizerConfig(weight_decay=0.3), 1.0), "weight_decay")
    assert decays.keys() == dict(task.named_parameters()).keys()
    decaying = {name.removeprefix("vit.") for name, decay in decays.items() if decay}
    block = ("attention.qkv", "attention.out", "mlp.fc1", "mlp.fc2")
    expected = {f"blocks.{i}.{name}.weight" for i in range(3) for name in block}
    assert {name for name in decaying if name.startswith("blocks")} == expected
    assert {name for name in decaying if not name.startswith(("blocks", "embed"))} == {"head.output.weight"}
    assert len([name for name in decaying if name.startswith("embed")]) == 1
    assert set(decays.values()) == {0.0, 0.3}


@pytest.mark.parametrize("kind", ["conv", "resnet"])
def test_kernels_of_the_stems_decay_and_their_norms_do_not(kind: str) -> None:
    embed = {"kind": kind} | ({"layers": (1,), "width": 32} if kind == "resnet" else {})
    task = make_task(image_size=32, patch_size=8, embed=embed)
    names = {name for name, p in task.named_parameters() if name.startswith("vit.embed") and p.ndim == 4}
    assert names
    decaying = kernels(task)
    assert names <= {name for name, parameter in task.named_parameters() if parameter in decaying}
    assert all(parameter.ndim >= 2 for parameter in decaying)


def test_layer_decay_scales_are_timms() -> None:
    theirs = timm.create_model(
        "vit_tiny_patch16_224", img_size=16, patch_size=8, embed_dim=16, depth=3, num_heads=2, num_classes=3
    )
    expected = by_name(theirs, param_groups_layer_decay(theirs, layer_decay=0.65), "lr_scale")
    task = make_task()
    groups = parameter_groups(task, OptimizerConfig(layer_decay=0.65), 1.0)
    ours = by_name(task, groups, "peak_lr")
    same = {
        "vit.class_token": "cls_token",
        "vit.positions.embedding": "pos_embed",
        "vit.norm.weight": "norm.weight",
        "head.output.weight": "head.weight",
        "head.output.bias": "head.bias",
        **{f"vit.blocks.{i}.norm1.bias": f"blocks.{i}.norm1.bias" for i in range(3)},
        **{f"vit.blocks.{i}.attention.qkv.weight": f"blocks.{i}.attn.qkv.weight" for i in range(3)},
        **{name: "patch_embed.proj.weight" for name in ours if name.startswith("vit.embed")},
    }
    assert len(set(expected.values())) == 5
    for name, their_name in same.items():
        assert ours[name] == pytest.approx(expected[their_name], rel=1e-12), name


def test_the_backbone_may_learn_more_slowly_than_the_head() -> None:
    task = make_task()
    rates = by_name(task, parameter_groups(task, OptimizerConfig(backbone_lr=0.1), 0.5), "lr")
    assert {rate for name, rate in rates.items() if name.startswith("vit.")} == {0.05}
    assert {rate for name, rate in rates.items() if name.startswith("head.")} == {0.5}


def test_layers_are_counted_from_the_head() -> None:
    task = make_task(registers=2, pre_norm=True)
    distance = distance_to_head(task)
    found = {name: distance.get(parameter, 0) for name, parameter in task.named_parameters()}
    names = ["registers", "pre_norm.weight", "blocks.0.norm1.weight", "blocks.2.norm1.weight", "norm.bias"]
    assert [found[f"vit.{name}"] for name in names] == [4, 4, 3, 1, 1]
    assert found["head.output.weight"] == 0


def test_all_encoders_are_frozen_and_grouped_as_backbones() -> None:
    from vitrail.pretrain.moco_v3 import Config as MocoConfig
    from vitrail.pretrain.moco_v3 import Task as Moco

    task = Moco(MocoConfig(model=make_task().config.model, hidden_dim=8, output_dim=4))
    rates = by_name(task, parameter_groups(task, OptimizerConfig(backbone_lr=0.1), 1.0), "lr")
    assert {rate for name, rate in rates.items() if name.startswith("vit.")} == {0.1}
    assert not any(name.startswith("teacher.") for name in rates)  # it follows, without gradients
    freeze(task, ["backbone"])
    assert {name.partition(".")[0] for name in by_name(task, parameter_groups(task, OptimizerConfig(), 1.0), "lr")} == {
        "projector",
        "predictor",
    }


def test_learning_rate_absolute_or_per_256_images() -> None:
    assert OptimizerConfig(lr=0.25).peak_lr(1024) == 0.25
    assert OptimizerConfig(base_lr=1e-3).peak_lr(1024) == 4e-3
    assert OptimizerConfig().peak_lr(7) == 1e-3
    with pytest.raises(UserError, match="not both"):
        OptimizerConfig(lr=1e-3, base_lr=1e-3)


def test_a_frozen_backbone_does_not_move_and_does_not_drop() -> None:
    task = make_task(block={"dropout": 0.5, "drop_path": 0.5})
    freeze(task, ["backbone"])
    groups = parameter_groups(task, OptimizerConfig(), 1.0)
    assert all(name.startswith("head.") for name in by_name(task, groups, "lr"))
    train_mode(task)
    assert not any(module.training for module in task.vit.modules())
    assert task.head.training
    nn.init.normal_(task.head.output.weight)
    x = torch.randn(4, 3, 16, 16)
    assert torch.equal(task(x), task(x))


def test_freezing_by_pattern() -> None:
    task = make_task()
    assert freeze(task, ["vit.embed", "vit.blocks.[01].*", "*.bias"]) > 0
    frozen = {name for name, p in task.named_parameters() if not p.requires_grad}
    assert {n for n in frozen if n.endswith("weight")} == {
        name
        for name, _ in task.named_parameters()
        if name.startswith(("vit.embed", "vit.blocks.0", "vit.blocks.1")) and name.endswith("weight")
    }
    train_mode(task)
    assert task.vit.blocks[2].training
    with pytest.raises(UserError, match=r"called 'vit.block'; did you mean 'vit.blocks"):
        freeze(task, ["vit.block"])
    freeze(task, ["*"])
    with pytest.raises(UserError, match="every parameter is frozen"):
        build(task, OptimizerConfig(), batch_size=8)


@pytest.mark.parametrize("name", ["adamw", "adam", "sgd", "lamb"])
@pytest.mark.parametrize("nesterov", [False, True])
def test_every_optimizer_lowers_a_loss(name: Any, nesterov: bool) -> None:
    torch.manual_seed(0)
    task = make_task()
    config = OptimizerConfig(name=name, lr=0.03 if name == "lamb" else 0.01, nesterov=nesterov)
    optimizer = build(task, config, batch_size=8)
    batch = {"images": torch.randn(8, 3, 16, 16), "targets": torch.randint(0, 3, (8,))}
    losses = []
    for step in range(12):
        set_rates(optimizer, config, 1.0 if step else 0.5, 0.0)
        loss = task.loss(batch)["loss"]
        losses.append(loss.item())
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    assert losses[-1] < 0.8 * losses[0]
