"""The image processor of Hugging Face's DETR-like detectors: ``preprocessor_config.json``, read and written.

Theirs fits an image by its edges and pads batches; ours has one canvas, with a border that no token attends to.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import from_huggingface, to_huggingface
from vitrail.errors import UserError
from vitrail.ops.grid import Pair

DEFAULTS: dict[str, Any] = {
    "size": 800,
    "max_size": 1333,
    "image_mean": (0.485, 0.456, 0.406),
    "image_std": (0.229, 0.224, 0.225),
}  # what a file may leave out


def read(own: dict[str, Any], image_size: Pair, patch_size: Pair) -> PreprocessConfig:
    """The processor's. One that fits an image by its edges makes images of any size; ours have one, with a border that
    no token attends to, upright or lying as the model's native size. Patches cover both processors' images."""
    own = {**DEFAULTS, **own}
    size = own["size"]
    if isinstance(size, int):
        size = {"shortest_edge": size, "longest_edge": own["max_size"]}
    if not {"shortest_edge", "longest_edge"} <= size.keys():
        return from_huggingface(own)
    edges = size["shortest_edge"], size["longest_edge"]
    height, width = covered(edges if image_size[0] <= image_size[1] else edges[::-1], patch_size)
    return replace(from_huggingface({**own, "size": {"height": height, "width": width}}), resize="pad")


def covered(size: Pair, patch_size: Pair) -> Pair:
    """What patches cover of an image, from its top left."""
    return size[0] // patch_size[0] * patch_size[0], size[1] // patch_size[1] * patch_size[1]


def write(preprocess: PreprocessConfig, kind: str) -> dict[str, Any]:
    """The file for a processor of this class.

    Raises:
        UserError: preprocessing that crops.
    """
    if preprocess.resize == "crop" or preprocess.crop_pct != 1:
        raise UserError(f"{kind} crops nothing; save a model with resize=pad or resize=square")
    found = {**to_huggingface(replace(preprocess, resize="square")), "image_processor_type": kind}
    if preprocess.resize == "pad":
        found |= {"size": {"shortest_edge": min(preprocess.size), "longest_edge": max(preprocess.size)}, "do_pad": True}
    return found
