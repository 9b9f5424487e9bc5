"""Tiny models that tests of found files share."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def timm_vit(**options: Any) -> nn.Module:
    """timm's smallest ViT with random weights: 32 pixels, two blocks, four classes."""
    import timm

    model = timm.create_model("vit_tiny_patch16_224", **{"img_size": 32, "depth": 2, "num_classes": 4, **options})
    return randomised(model)


def randomised(model: nn.Module) -> nn.Module:
    """Every parameter drawn, in evaluation mode."""
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.2)
    return model.eval()


def prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + name: value.clone() for name, value in state.items()}


def distance(ours: nn.Module, theirs: nn.Module, images: Tensor) -> float:
    """Between outputs, as a share of the largest."""
    with torch.no_grad():
        a, b = ours.eval()(images), theirs(images)
    assert a.shape == b.shape
    return float((a - b).abs().max() / b.abs().max())
