"""Initial values: the same draws in the same order as the three passes by type that they are defined by."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import nn

from vitrail import registry
from vitrail.config import from_dict
from vitrail.nn.attention import Attention
from vitrail.nn.block import LayerScale
from vitrail.nn.box_refinement import BoxHead, logit
from vitrail.nn.head import Head
from vitrail.nn.init import initialise
from vitrail.nn.mlp import Mlp, SwiGLU
from vitrail.nn.object_queries import ObjectQueries
from vitrail.nn.pooling import AttentionPool
from vitrail.nn.positions import LearnedPositions
from vitrail.nn.relative_bias import RelativeBias
from vitrail.nn.resnet_stem import Bottleneck
from vitrail.vit import ViT, ViTConfig

SMALL = {"image_size": 32, "patch_size": 8, "dim": 16, "depth": 2, "heads": 2, "mlp_dim": 24}
MODELS: dict[str, dict[str, Any]] = {
    "plain": {},
    "tokens": {"distillation_token": True, "registers": 2, "pre_norm": True},
    "beit": {"positions": "relative", "block": {"key_bias": False, "layer_scale": 0.1, "qk_norm": True}},
    "swiglu": {"positions": "sincos_2d", "block": {"mlp": "swiglu", "qkv_bias": False}},
    "conv": {"embed": {"kind": "conv"}},
    "resnet": {"embed": {"kind": "resnet", "layers": [1, 1]}},
}
TASKS: list[tuple[str, str, dict[str, Any]]] = [
    ("tasks", "classification", {"classes": ["a", "b"], "pool": "attention", "head": {"hidden": 8}}),
    ("tasks", "detection", {"classes": ["a", "b"], "one_to_many": {"num_queries": 5}}),
    ("tasks", "detection_tokens", {"classes": ["a", "b"], "mid_positions": True}),
    ("tasks", "instances", {"classes": ["a", "b"]}),
    ("tasks", "segmentation", {"classes": ["a", "b"], "decoder": "detail"}),
    ("pretrain", "mae", {}),
    ("pretrain", "ibot", {}),
]


def lecun_(weight: torch.Tensor) -> None:
    std = math.sqrt(1 / weight[0].numel()) / 0.87962566103423978
    nn.init.trunc_normal_(weight, std=std, a=-2 * std, b=2 * std)


@torch.no_grad()
def by_type(model: nn.Module) -> None:
    """The definition: layers and tables, then tokens by name, then what differs from the layers' rules."""
    for module in model.modules():
        if isinstance(module, nn.Linear | nn.Conv2d):
            (nn.init.xavier_uniform_ if isinstance(module, nn.Linear) else lecun_)(module.weight)
            if module.bias is not None:
                module.bias.zero_()
        elif isinstance(module, nn.LayerNorm | nn.GroupNorm):
            module.weight.fill_(1)
            module.bias.zero_()
        elif isinstance(module, LayerScale):
            module.gamma.fill_(module.initial)
        elif isinstance(module, LearnedPositions):
            nn.init.trunc_normal_(module.embedding, std=0.02)
        elif isinstance(module, RelativeBias):
            nn.init.trunc_normal_(module.table, std=0.02)
        elif isinstance(module, AttentionPool):
            nn.init.xavier_uniform_(module.probe[0])
        elif isinstance(module, ObjectQueries):
            nn.init.normal_(module.content)
            centres, count = torch.rand(len(module.content), 2), len(module.content)
            module.box_logits.copy_(logit(torch.cat((centres, torch.full((count, 2), 0.25)), dim=1)))
    for name, parameter in model.named_parameters():
        if name.endswith(("class_token", "distillation_token")):
            parameter.zero_()
        elif name.endswith("registers"):
            nn.init.normal_(parameter, std=1e-6)
    for module in model.modules():
        if isinstance(module, Attention):
            for kernel in module.qkv_kernels():
                nn.init.xavier_uniform_(kernel)
            if module.qv_bias is not None:
                module.qv_bias.zero_()
        elif isinstance(module, SwiGLU):
            for kernel in module.fc1.weight.chunk(2):
                nn.init.xavier_uniform_(kernel)
        elif isinstance(module, AttentionPool):
            for kernel in module.kv.weight.chunk(2):
                nn.init.xavier_uniform_(kernel)
        elif isinstance(module, Mlp):
            nn.init.normal_(module.fc1.bias, std=1e-6)
            nn.init.normal_(module.fc2.bias, std=1e-6)
        elif isinstance(module, BoxHead):
            module.output.weight.zero_()
        elif isinstance(module, Bottleneck):
            module.norm3.weight.zero_()
        elif isinstance(module, Head):
            for output in (module.output, module.distillation):
                if isinstance(output, nn.Linear):
                    output.weight.zero_()
            if module.hidden is not None:
                lecun_(module.hidden.weight)


def drawn(rule: Any, model: nn.Module) -> list[torch.Tensor]:
    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(0.5)  # what the rule leaves alone shows
    rule(model)
    return [*(parameter.clone() for parameter in model.parameters()), torch.rand(2)]


def same(model: nn.Module) -> bool:
    return all(torch.equal(a, b) for a, b in zip(drawn(initialise, model), drawn(by_type, model), strict=True))


@pytest.mark.parametrize("changes", MODELS.values(), ids=MODELS)
def test_a_vit_is_drawn_as_defined(changes: dict[str, Any]) -> None:
    assert same(ViT(from_dict(ViTConfig, SMALL | changes)))


@pytest.mark.parametrize(("package", "name", "options"), TASKS, ids=[name for _, name, _ in TASKS])
def test_a_task_is_drawn_as_defined(package: str, name: str, options: dict[str, Any]) -> None:
    module = registry.load(package, name)
    assert same(module.Task(from_dict(module.Config, {"model": SMALL, **options})))


def test_kernels_in_one_matrix_have_the_deviation_of_separate_layers() -> None:
    """Xavier's √(2 / (inputs + outputs)), of each kernel alone."""
    dim, hidden = 256, 320
    fused = {
        "qkv": (Attention(dim, 4, 48), "qkv.weight", 3, 4 * 48),
        "kv": (AttentionPool(dim, 4, hidden, "gelu", 1e-6), "kv.weight", 2, dim),
        "gate and value": (SwiGLU(dim, hidden), "fc1.weight", 2, hidden),
    }
    for name, (module, parameter, num, outputs) in fused.items():
        initialise(module)
        wanted = math.sqrt(2 / (dim + outputs))
        for kernel in module.get_parameter(parameter).chunk(num):
            assert kernel.shape == (outputs, dim), name
            assert kernel.std().item() == pytest.approx(wanted, rel=0.015), name  # 49,000 draws: five deviations
            assert kernel.abs().max().item() == pytest.approx(math.sqrt(3) * wanted, rel=0.001), name


def test_nothing_is_drawn_on_meta() -> None:
    with torch.device("meta"):
        model = ViT(from_dict(ViTConfig, SMALL))
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    initialise(model)
    assert torch.equal(torch.rand(2), expected)
