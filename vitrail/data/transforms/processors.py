"""Preprocessing as others write it: Hugging Face's ``preprocessor_config.json``, timm's ``pretrained_cfg``."""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import Any

from PIL import Image

from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError

_CLIP: dict[str, Any] = {
    "size": {"shortest_edge": 224},
    "do_center_crop": True,
    "crop_size": 224,
    "resample": Image.Resampling.BICUBIC,
    "image_mean": (0.48145466, 0.4578275, 0.40821073),
    "image_std": (0.26862954, 0.26130258, 0.27577711),
}
_DEFAULTS: dict[str, dict[str, Any]] = {
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "Bit": _CLIP,
    "DeiT": {
        "size": {"height": 256, "width": 256},
        "do_center_crop": True,
        "crop_size": 224,
        "resample": Image.Resampling.BICUBIC,
    },
    "Beit": {"resample": Image.Resampling.BICUBIC},
    "Siglip": {"resample": Image.Resampling.BICUBIC},
}  # of transformers' image processors, for settings that a file leaves out; the others have ViT's
_BY_SHORTEST_EDGE = ("CLIP", "ChineseCLIP", "Bit", "Siglip")  # to whom a size of one number means that, and no square
MAX_SIDE = 2**20  # pixels of an input
_TIMM_MODES = {"center": "crop", "squash": "square", "border": "pad"}
_TO_TIMM_MODES = {ours: theirs for theirs, ours in _TIMM_MODES.items()}


def from_huggingface(data: dict[str, Any]) -> PreprocessConfig:
    """The settings of a ViT-like image processor; what they leave out is the default of their ``image_processor_type``.

    Exact for the Pillow backend.

    Raises:
        UserError: a processor that does not resize, or that resizes in another way.
    """
    if not data.get("do_resize", True):
        raise UserError("the image processor has do_resize=false; a model needs one size, so set do_resize and size")
    kind = str(data.get("image_processor_type") or data.get("feature_extractor_type"))
    kind = re.sub("(FeatureExtractor|ImageProcessor)(Fast|Pil)?$", "", kind)
    if kind in _BY_SHORTEST_EDGE and isinstance(data.get("size"), int):
        data = {**data, "size": {"shortest_edge": data["size"]}}
    data = {**_DEFAULTS.get(kind, {}), **data}
    size, crop_size = _as_dict(data.get("size", 224)), None
    if data.get("do_center_crop", False):
        crop_size = _as_dict(data["crop_size"]) if "crop_size" in data else size
    mean, std = data.get("image_mean", (0.5,) * 3), data.get("image_std", (0.5,) * 3)
    if not data.get("do_normalize", True):
        mean, std = (0.0,) * 3, (1.0,) * 3
    settings = {
        "crop_rounding": "nearest" if crop_size is None else "down",
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


def from_sam(data: dict[str, Any]) -> PreprocessConfig:
    """The settings of SAM's processor: the longer side resized, then a border below or to the right, of the mean.

    Its border is exactly the mean, ours the nearest colour: half a grey level away at most.

    Raises:
        UserError: as :func:`from_huggingface`; a border to another size.
    """
    longest, padded = data["size"]["longest_edge"], _as_dict(data.get("pad_size", data["size"]["longest_edge"]))
    if set(padded.values()) != {longest} or not data.get("do_pad", True):
        raise UserError(
            f"the image processor resizes the longer side to {longest} and has do_pad {data.get('do_pad', True)} to "
            f"{padded}; a model needs one square, so make pad_size that of size"
        )
    plain = from_huggingface({**data, "size": {"height": longest, "width": longest}, "do_center_crop": False})
    return replace(plain, resize="pad", border="end")


def to_sam(config: PreprocessConfig) -> dict[str, Any]:
    """The same for ``preprocessor_config.json``. Raises UserError where it is of another kind or no square."""
    height, width = config.size
    if height != width or config.crop_pct != 1:
        raise UserError(f"SAM's processor has one size, not {height} × {width}; save as native")
    found = to_huggingface(replace(config, resize="square"))
    kept = {name: value for name, value in found.items() if not name.endswith("crop") and name != "crop_size"}
    return kept | {
        "image_processor_type": "SamImageProcessor",
        "size": {"longest_edge": height},
        "do_pad": True,
        "pad_size": {"height": height, "width": width},
    }


def to_huggingface(config: PreprocessConfig) -> dict[str, Any]:
    """The content of a ``preprocessor_config.json``, for a processor that does so in transformers 4 and 5.

    Raises:
        UserError: ``resize="pad"``, which it has not.
    """
    height, width = config.size
    resized = {name: math.floor(side / config.crop_pct) for name, side in (("height", height), ("width", width))}
    if config.resize == "pad" or (config.resize == "crop" and height != width):
        raise UserError(
            f"Hugging Face's image processors have no counterpart of resize={config.resize} to {height} × {width}; "
            "save a model with resize=square"
        )
    square = "ViT" if config.crop_pct == 1 else "DeiT"
    return {
        "image_processor_type": f"{'Bit' if config.resize == 'crop' else square}ImageProcessor",
        "do_convert_rgb": config.channels == 3,
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


def to_timm(config: PreprocessConfig) -> dict[str, Any]:
    """The part of a ``pretrained_cfg`` that timm builds its evaluation transform from; :func:`from_timm` reads it back.

    Raises:
        UserError: pixels that are not divided by 255, which timm always does, or a border at the end.
    """
    if config.resize == "pad" and config.border == "end":
        raise UserError("timm puts images into the middle of their border, not at its start; save as native")
    if config.rescale != 1 / 255:
        raise UserError(
            f"timm divides pixels by 255 and has no counterpart of rescale={config.rescale}; save as native"
        )
    return {
        "input_size": [config.channels, *config.size],
        "interpolation": config.interpolation,
        "crop_pct": config.crop_pct,
        "crop_mode": _TO_TIMM_MODES[config.resize],
        "mean": _for_each(config.mean, config.channels),
        "std": _for_each(config.std, config.channels),
    }


def _as_dict(size: int | dict[str, int]) -> dict[str, int]:
    return {"height": size, "width": size} if isinstance(size, int) else size


def _share(final: tuple[int, int], resized: tuple[int, int]) -> float:
    """The crop_pct that leads from ``final`` back to ``resized``, whatever the rounding."""
    if not all(type(side) is int and 0 < side <= MAX_SIDE for side in (*final, *resized)):
        raise UserError(f"cannot resize to {resized} and then crop {final}; sides are pixels from 1 to {MAX_SIDE}")
    share = final[0] / resized[0]
    while math.floor(final[0] / share) < resized[0]:
        share = math.nextafter(share, 0)
    if share > 1 or math.floor(final[1] / share) != resized[1]:
        raise UserError(f"cannot resize to {resized} and then crop {final}; both sides must shrink by the same share")
    return share


def _for_each(values: tuple[float, ...], channels: int) -> list[float]:
    return list(values) * channels if len(values) == 1 else list(values)
