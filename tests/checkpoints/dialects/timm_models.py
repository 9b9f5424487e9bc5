"""Small models of timm's, and of ours that timm can hold."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import save_for_hf
from timm.models.vision_transformer import VisionTransformer

from vitrail.tasks import Task, classification, features
from vitrail.vit import ViTConfig

logging.getLogger("timm").setLevel(logging.ERROR)  # it tells of every adaptation that a test asks for
BASE = "vit_base_patch16_224"
SMALL: dict[str, Any] = {"img_size": 32, "embed_dim": 32, "depth": 2, "num_heads": 2, "num_classes": 5}
MODELS: dict[str, tuple[str, dict[str, Any]]] = {
    "token": (BASE, {}),
    "no_head": (BASE, {"num_classes": 0}),
    "fc_norm": (BASE, {"global_pool": "avg"}),
    "mean_after_norm": (BASE, {"global_pool": "avg", "fc_norm": False}),
    "token_fc_norm": (BASE, {"fc_norm": True}),
    "max": (BASE, {"global_pool": "max"}),
    "no_class_token": (BASE, {"class_token": False, "global_pool": "avg"}),
    "no_final_norm": (BASE, {"final_norm": False}),
    "no_positions": (BASE, {"pos_embed": "none"}),
    "qk_norm": (BASE, {"qk_norm": True}),
    "no_qkv_bias": (BASE, {"qkv_bias": False}),
    "tanh": (BASE, {"act_layer": "gelu_tanh"}),
    "narrow_mlp": (BASE, {"mlp_ratio": 1.7}),
    "rectangle": (BASE, {"img_size": (32, 48)}),
    "long_patches": (BASE, {"img_size": (32, 48), "patch_size": (16, 8)}),
    "grey": (BASE, {"in_chans": 1}),
    "siglip": ("vit_base_patch16_siglip_224", {}),
    "siglip_tanh": ("vit_base_patch32_siglip_256", {"img_size": 64, "num_classes": 0}),
    "siglip_gap": ("vit_base_patch16_siglip_gap_224", {}),
    "clip": ("vit_base_patch16_clip_224", {}),
    "clip_projection": ("vit_base_patch16_clip_quickgelu_224", {"num_classes": 512}),
    "deit3": ("deit3_base_patch16_224", {}),
    "distilled": ("deit_base_distilled_patch16_224", {}),
    "dinov2": ("vit_small_patch14_dinov2", {"img_size": 56}),
    "dinov2_registers": ("vit_small_patch14_reg4_dinov2", {"img_size": 56, "num_classes": 0}),
    "dinov2_giant": ("vit_giant_patch14_dinov2", {"img_size": 28, "num_classes": 0}),
    "dinov2_giant_registers": ("vit_giant_patch14_reg4_dinov2", {"img_size": 28}),
    "registers_gap": ("vit_medium_patch16_reg4_gap_256", {}),
    "placed_registers": ("vit_so150m_patch16_reg4_gap_256", {"embed_dim": 32}),
    "placed_registers_map": ("vit_so150m_patch16_reg4_map_256", {"embed_dim": 32}),
    "placed_registers_cls": (BASE, {"reg_tokens": 3}),
    "hybrid_root": ("vit_tiny_r_s16_p8_224", {"img_size": 64}),
    "hybrid_r26": ("vit_small_r26_s32_224", {"img_size": 64}),
    "hybrid_r50": ("vit_base_r50_s16_224", {"img_size": 32}),
    "hybrid_grey": ("vit_tiny_r_s16_p8_224", {"img_size": 64, "in_chans": 1}),
}


OURS: dict[str, dict[str, Any]] = {
    "plain": {"vit": {}},
    "features": {"vit": {}, "labels": False},
    "mean": {"vit": {"final_norm": False}, "pool": "mean", "head": {"norm": True}},
    "mean_after_norm": {"vit": {"class_token": False}},
    "max": {"vit": {}, "pool": "max"},
    "attention": {"vit": {"class_token": False, "block": {"mlp": "gelu_tanh"}}, "pool": "attention"},
    "attention_beside_a_class_token": {"vit": {"block": {"mlp": "gelu_tanh"}}, "pool": "attention"},
    "registers": {"vit": {"registers": 3, "block": {"layer_scale": 0.1}}, "labels": False},
    "registers_alone": {"vit": {"registers": 3, "class_token": False}},
    "swiglu": {"vit": {"block": {"mlp": "swiglu"}}},
    "swiglu_scaled": {"vit": {"registers": 4, "block": {"mlp": "swiglu", "layer_scale": 0.0}}, "labels": False},
    "distilled": {"vit": {"distillation_token": True}, "pool": "cls_distillation", "head": {"distilled": True}},
    "clip": {
        "vit": {"pre_norm": True, "embed": {"kind": "patch", "bias": False}, "block": {"norm_eps": 1e-5}},
        "labels": False, "projection": 24, "head": {"bias": False},
    },
    "eps": {"vit": {"block": {"norm_eps": 1e-5, "qk_norm": True}}},
    "no_positions": {"vit": {"positions": "none"}},
    "hybrid": {
        "vit": {
            "patch_size": 32,
            "embed": {"kind": "resnet", "layers": (), "weight_eps": 1e-8, "norm_eps": 1e-5},
        },
    },
}  # fmt: skip


def create(name: str, **changes: Any) -> VisionTransformer:
    architecture, args = MODELS[name]
    return timm.create_model(architecture, **{**SMALL, **args, **changes})


def images(model: Any, count: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(count, model.in_chans, *model.patch_embed.img_size)


def stored(model: Any, folder: Path) -> Path:
    save_for_hf(model, str(folder), safe_serialization=True)
    return folder


def task_of(vit: dict[str, Any], *, labels: bool = True, **rest: Any) -> Task:
    """One of ours with random weights."""
    torch.manual_seed(0)
    base = {"image_size": 32, "patch_size": 16, "dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48}
    config = ViTConfig(**{**base, **vit})
    if labels:
        task: Task = classification.Task(classification.Config(model=config, classes=("ant", "bee", "cat"), **rest))
    else:
        task = features.Task(features.Config(model=config, **rest))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return task.eval()
