"""What files of SwinIR and of Swin2SR have in common."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from vitrail.checkpoints.rules import Rule, layer
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.tasks.super_resolution import Config, Task, exact_tiles

MEAN = (0.4488, 0.4371, 0.4040)  # of the colours of DIV2K; grey pictures are taken as they are
SIZE = 48  # pixels of the parts that such models are trained on
OF_VIT = ("dim", "depth", "heads", "mlp_dim")


def encoder(channels: int, window: int, eps: float, sizes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the ViT.

    Args:
        sizes: of it, :data:`OF_VIT`; other entries are left.
    """
    return {
        "image_size": window,  # the grid of the relative positions
        "channels": channels,
        "patch_size": 3,
        "embed": {"kind": "patch", "stride": 1, "centre": True},
        "class_token": False,
        "block": {"norm_eps": eps},
        **{name: sizes[name] for name in OF_VIT},
    }


def settings(channels: int, window: int, scale: int, others: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of the task.

    Args:
        others: of it; those of :data:`OF_VIT` are left out.
    """
    return {
        "scale": scale,
        "window": {"size": window, "num_global": 0, "shifted": True},
        "skip": "bicubic" if scale == 1 else "mean",
        "mean": MEAN if channels == 3 else (0.0,),
        **{name: value for name, value in others.items() if name not in OF_VIT},
    }


def preprocess(config: Config) -> PreprocessConfig:
    """Pixels from 0 to 1, by tiles."""
    return PreprocessConfig(
        size=(SIZE, SIZE),
        channels=config.model.channels,
        resize="none",
        mean=(0,),
        std=(1,),
        tiles=exact_tiles(config),
        degrade=DegradeConfig(scale=config.scale),
    )


def convolutions(ours: str, theirs: str, count: int) -> list[Rule]:
    """One convolution, or three and what is between them."""
    return layer(ours, theirs) if count == 1 else [r for i in (0, 2, 4) for r in layer(f"{ours}.{i}", f"{theirs}.{i}")]


def differs(config: Config, theirs: Config) -> str | None:
    """The first setting that shapes the model and is another than theirs."""
    if config.upsampler.kind == "direct" == theirs.upsampler.kind:
        theirs = replace(theirs, upsampler=config.upsampler)  # its width means nothing
    for name in ("model", *Task.shaping):
        if getattr(config, name) != getattr(theirs, name):
            return f"such task_options.{name}" if name != "model" else "such an encoder (positions, norms, patches)"
    return None
