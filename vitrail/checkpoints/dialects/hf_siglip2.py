"""Hugging Face SigLIP 2 of variable aspect ratio (NaFlex): Siglip2VisionModel, Siglip2ForImageClassification.

SigLIP's tower on flattened patches, whose positions move to the grid of each image. SigLIP 2 of a fixed size has the
files of :mod:`hf_siglip`. Images here are resized to the square that the positions are of; other sizes work as well.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from torch import Tensor

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import huggingface_towers as towers
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import hf_siglip
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.rules import Rule, mapped, under
from vitrail.checkpoints.shapes import Shapes
from vitrail.data.transforms.processors import from_huggingface, to_huggingface
from vitrail.errors import UserError

LIBRARY = "huggingface"
TASKS = pooled.TASKS
FILE = hf.FILE
LAST = True
IGNORED = hf_siglip.IGNORED
KERNEL = "vision_model.embeddings.patch_embedding.weight"
POSITIONS = "vision_model.embeddings.position_embedding.weight"
canonical = towers.canonical


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the config: the names are SigLIP's."""
    return hf_siglip.is_tower(names) and str(beside.config.get("model_type", "")).startswith("siglip2")


def describe(shapes: Shapes, beside: Beside) -> Description:
    """As SigLIP, with the patch size of the config.

    Raises:
        UserError: positions that are no square's, or patches of another length.
    """
    values = towers.vision_config(beside.config)
    config = hf.Config(values)
    patch, side = config.get("patch_size", 16), math.isqrt(shapes[POSITIONS][0])
    dim, length = shapes[KERNEL]
    if not isinstance(patch, int) or length % (patch * patch) or side * side != shapes[POSITIONS][0]:
        raise UserError(
            f"{shapes[POSITIONS][0]} positions and patches of {length} numbers do not fit patch_size {patch} in "
            "config.json; correct it"
        )
    values["image_size"] = side * patch
    square = {**shapes, KERNEL: (dim, length // patch**2, patch, patch)}
    found = hf_siglip.describe_as(square, config, beside, preprocess(beside, side * patch))
    return found


def preprocess(beside: Beside, size: int) -> Any:
    """The processor's values, with a resize to the square: ours keeps no aspect ratio."""
    if not beside.preprocessor:
        return None
    plain = {key: value for key, value in beside.preprocessor.items() if key not in ("size", "do_center_crop")}
    kept = "Siglip2" not in str(plain.get("image_processor_type", "Siglip2"))
    return from_huggingface({**plain, "size": beside.preprocessor["size"] if kept else size})


def rules(description: Description) -> list[Rule]:
    """Their patches are rows of pixels with the channels last."""
    model = pooled.read(description)
    (height, width), channels = model.vit.patch_size, model.vit.channels

    def read(value: Tensor) -> Tensor:
        return value.unflatten(1, (height, width, channels)).permute(0, 3, 1, 2)

    kernel = mapped("vit.embed.projection.weight", KERNEL, read, lambda value: value.permute(0, 2, 3, 1).flatten(1))
    rest = [rule for rule in towers.rules(model) if rule.ours != kernel.ours]
    return [*rest, kernel, *under("pool.", "vision_model.head.", hf_siglip.POOL)]


def lacks(description: Description) -> str | None:
    """What a Siglip2VisionModel or Siglip2ForImageClassification cannot be; a tower of a fixed size is SigLIP's."""
    resampling = pooled.read(description).vit.resampling
    own = f"resampling of positions by {resampling}" if resampling != "bilinear_antialias" else None
    return hf_siglip.lacks(description) or own


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``, for the library's own processor."""
    model = pooled.read(description)
    architecture = "Siglip2ForImageClassification" if model.outputs else "Siglip2VisionModel"
    found = towers.sidecars(model, "siglip2", architecture, vision_use_head=model.pool == "attention")
    tower: Any = found["config.json"]
    tower = tower.get("vision_config", tower)
    tower.pop("image_size")
    tower["num_patches"] = _num_patches(model)
    if model.preprocess is not None:
        settings = to_huggingface(model.preprocess)
        for name in ("size", "crop_size", "do_center_crop"):
            settings.pop(name)
        settings |= {"image_processor_type": "Siglip2ImageProcessor", "patch_size": model.vit.patch_size[0]}
        found["preprocessor_config.json"] = settings | {"max_num_patches": _num_patches(model)}
    return found


def _num_patches(model: PooledModel) -> int:
    return (model.vit.image_size[0] // model.vit.patch_size[0]) ** 2
