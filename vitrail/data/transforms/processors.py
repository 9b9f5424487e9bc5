"""Preprocessing as others write it: Hugging Face's ``preprocessor_config.json``, timm's ``pretrained_cfg``."""

from __future__ import annotations

import math
from typing import Any

from PIL import Image

from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError

_TIMM_MODES = {"center": "crop", "squash": "square", "border": "pad"}


def from_huggingface(data: dict[str, Any]) -> PreprocessConfig:
    """A ViT-like image processor's settings.

    Exact for a square resize (ViT's). After a shortest-edge resize, the centre crop may lie one pixel beside theirs.

    Raises:
        UserError: a processor that does not resize, or that resizes in another way.
    """
    if not data.get("do_resize", True):
        raise UserError("the image processor has do_resize=false; a model needs one size, so set do_resize and size")
    size, crop_size = _as_dict(data.get("size", 224)), None
    if data.get("do_center_crop", False):
        crop_size = _as_dict(data["crop_size"]) if "crop_size" in data else size
    mean, std = data.get("image_mean", (0.5,) * 3), data.get("image_std", (0.5,) * 3)
    if not data.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    settings = {
        "channels": len(mean) if isinstance(mean, list | tuple) else 3,
        "interpolation": Image.Resampling(data.get("resample", Image.Resampling.BILINEAR)).name.lower(),
        "rescale": data.get("rescale_factor", 1 / 255) if data.get("do_rescale", True) else 1.0,
        "mean": mean,
        "std": std,
    }
    if {"height", "width"} <= size.keys():
        resize, resized = "square", (size["height"], size["width"])
    elif "shortest_edge" in size and crop_size is not None:
        resize, resized = "crop", (size["shortest_edge"],) * 2
    else:
        raise UserError(
            f"the image processor's size {size} is neither height and width nor a shortest edge to crop from"
        )
    final = (crop_size["height"], crop_size["width"]) if crop_size is not None else resized
    where = "preprocessor_config.json"
    return from_dict(
        PreprocessConfig, settings | {"size": final, "resize": resize, "crop_pct": _share(final, resized)}, where=where
    )


def to_huggingface(config: PreprocessConfig) -> dict[str, Any]:
    """The content of a ``preprocessor_config.json`` for ViTImageProcessor.

    Raises:
        UserError: ``resize="pad"``, which it has not.
    """
    height, width = config.size
    resized = {name: math.floor(side / config.crop_pct) for name, side in (("height", height), ("width", width))}
    if config.resize == "pad" or (config.resize == "crop" and height != width):
        raise UserError(
            f"Hugging Face's ViT image processor has no counterpart of resize={config.resize} to {height} × {width}; "
            "save a model with resize=square"
        )
    return {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"shortest_edge": resized["height"]} if config.resize == "crop" else resized,
        "resample": int(Image.Resampling[config.interpolation.upper()]),
        "do_center_crop": config.crop_pct != 1 or config.resize == "crop",
        "crop_size": {"height": height, "width": width},
        "do_rescale": True,
        "rescale_factor": config.rescale,
        "do_normalize": True,
        "image_mean": _for_each(config.mean, config.channels),
        "image_std": _for_each(config.std, config.channels),
    }


def from_timm(data: dict[str, Any]) -> PreprocessConfig:
    """The evaluation transform that timm builds from a ``pretrained_cfg``, exactly.

    Raises:
        UserError: a crop mode or interpolation that is not known.
    """
    channels, height, width = data.get("input_size", (3, 224, 224))
    mode = data.get("crop_mode", "center")
    settings = {
        "size": (height, width),
        "channels": channels,
        "resize": _TIMM_MODES.get(mode, mode),
        "crop_pct": data.get("crop_pct", 0.875),
        "interpolation": data.get("interpolation", "bicubic"),
        "mean": data.get("mean", (0.485, 0.456, 0.406)),
        "std": data.get("std", (0.229, 0.224, 0.225)),
    }
    return from_dict(PreprocessConfig, settings, where="pretrained_cfg")


def _as_dict(size: int | dict[str, int]) -> dict[str, int]:
    return {"height": size, "width": size} if isinstance(size, int) else size


def _share(final: tuple[int, int], resized: tuple[int, int]) -> float:
    """The crop_pct that leads from ``final`` back to ``resized``, whatever the rounding."""
    share = final[0] / resized[0]
    while math.floor(final[0] / share) < resized[0]:
        share = math.nextafter(share, 0)
    if share > 1 or math.floor(final[1] / share) != resized[1]:
        raise UserError(f"cannot resize to {resized} and then crop {final}; both sides must shrink by the same share")
    return share


def _for_each(values: tuple[float, ...], channels: int) -> list[float]:
    return list(values) * channels if len(values) == 1 else list(values)
