"""What a weights file of another library describes, in our terms: no task, no tensor."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import PoolKind
from vitrail.vit import ViTConfig

Shapes = Mapping[str, tuple[int, ...]]


@dataclass(frozen=True)
class Model:
    """Architecture, preprocessing and labels.

    Attributes:
        outputs: width of the head; 0: features alone, no head.
        labels: whether the outputs are classes; otherwise they are a projection of the features (CLIP).
        classes: names in the order of the outputs, empty where nobody gave them.
        preprocess: None where the file and its folder say nothing, and the dialect has no custom of its own.
        task: a pretraining method whose parts the file holds too, with the ``options`` of its config; else "".
        assumed: what the file does not say and how it was settled, in words for people.
    """

    vit: ViTConfig
    pool: PoolKind | None = None
    head: HeadConfig = field(default_factory=HeadConfig)
    outputs: int = 0
    labels: bool = True
    classes: tuple[str, ...] = ()
    preprocess: PreprocessConfig | None = None
    task: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    assumed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Beside:
    """What lies beside the tensors: JSON files, checked to be mappings and nothing else yet.

    Attributes:
        config: ``config.json``, empty where there is none.
        preprocessor: ``preprocessor_config.json``.
        classes: from ``classes.json``.
        metadata: the texts inside the weights file.
        name: the file's or folder's own name, a hint where nothing else tells two variants apart.
    """

    config: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    name: str = ""


def depth_of(names: Any, prefix: str) -> int:
    """How many blocks ``{prefix}{i}.…`` there are.

    Args:
        names: tensor names.
    """
    found = {name[len(prefix) :].split(".")[0] for name in names if name.startswith(prefix)}
    return sum(part.isdigit() for part in found)


_HEADS = {192: 3, 384: 6, 768: 12, 1024: 16, 1280: 16, 1152: 16, 1408: 16, 1664: 16}


def usual_heads(dim: int) -> int:
    """The head count of the published model of this width, else heads of 64."""
    return _HEADS.get(dim, max(dim // 64, 1))


def geometry(kernel: tuple[int, ...], num_positions: int, image_size: Any = None) -> dict[str, Any]:
    """``image_size``, ``patch_size``, ``channels`` and ``dim`` of a :class:`ViTConfig`.

    Args:
        kernel: shape of the patch projection, (D, C, P, P).
        num_positions: learned positions of patches, without those of other tokens.
        image_size: what a config says, one number or (height, width); default: the square that has the positions.

    Raises:
        UserError: positions of no square, and nothing said, or something else.
    """
    dim, channels, *patch = kernel
    if image_size is None:
        side = math.isqrt(num_positions)
        image_size = (side * patch[0], side * patch[1])
    height, width = (image_size, image_size) if isinstance(image_size, int) else image_size
    if (height // patch[0]) * (width // patch[1]) != num_positions:
        raise UserError(
            f"{num_positions} positions do not cover {height} × {width} pixels in patches of {patch[0]} × {patch[1]}; "
            "say its image_size in config.json"
        )
    return {"image_size": (height, width), "patch_size": tuple(patch), "channels": channels, "dim": dim}


def numbered(count: int) -> tuple[str, ...]:
    """Names for classes that nobody named."""
    return tuple(f"class {i}" for i in range(count))
