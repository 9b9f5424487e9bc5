"""Settings that a training takes where its user gives none, each with its reason: by the data, the model and the start.

A task states its own in ``Trainable.defaults``. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from PIL import Image

from vitrail.data.media.decode import BadImage, decode
from vitrail.data.source import Source
from vitrail.data.targets import Extents
from vitrail.ops.grid import Pair
from vitrail.vit import ViTConfig

FEW = 5000  # images, up to which small steps and small decoders learn more
NUM_STEPS = 3200  # in which sets of objects are learned from few images
LOOKED_AT = 16  # images whose size is read
TOKENS_OF_AN_OBJECT = 2  # patches along the side of a small object, so that it has features of its own
SMALL = 0.05  # of the objects, as small ones
SHORTEST, LONGEST = 224, 640  # of the input's longer side


class Choice(NamedTuple):
    """A setting of a run."""

    path: str
    value: object
    reason: str

    def __str__(self) -> str:
        return f"{self.path}: {self.value} ({self.reason})"


@dataclass(frozen=True)
class Facts:
    """What defaults depend on.

    Attributes:
        num_images: of the training split.
        image_sizes: int64 (n, 2), of a few of them; read where targets are spatial.
        objects: of spatial targets that are objects.
        model: the encoder.
        pretrained: whether training starts from weights.
    """

    num_images: int
    image_sizes: np.ndarray
    objects: Extents | None
    model: ViTConfig
    pretrained: bool

    @classmethod
    def of(cls, source: Source, model: ViTConfig, *, pretrained: bool) -> Facts:
        """Those of a training split."""
        kind = source.target_kind
        sizes = list(_sizes(source, model.channels)) if kind.spatial else []
        image_sizes = np.array(sizes, np.int64).reshape(-1, 2)
        return cls(len(source), image_sizes, kind.extents(source.targets), model, pretrained)


def effective(choices: Iterable[Choice], given: Mapping[str, object]) -> list[Choice]:
    """Those that no given setting replaces: explicit values win."""
    paths = set(given) | ({"optimizer.lr"} if "optimizer.base_lr" in given else set())
    return [choice for choice in choices if not any(f"{choice.path}.".startswith(f"{path}.") for path in paths)]


def steps(facts: Facts, batch_size: int, num_steps: int, fewest: int) -> list[Choice]:
    """Images a step, and as many epochs as ``num_steps`` take, but at least ``fewest``."""
    a_epoch = max(math.ceil(facts.num_images / batch_size), 1)
    epochs = max(math.ceil(num_steps / a_epoch), fewest)
    return [
        Choice("data.loader.batch_size", batch_size, f"{facts.num_images:,} images are {a_epoch:,} steps an epoch"),
        Choice("epochs", epochs, f"{epochs * a_epoch:,} steps in all"),
    ]


def spatial(facts: Facts) -> list[Choice]:
    """Steps, rates, input, averaging and augmentation for targets with places."""
    start = "from weights" if facts.pretrained else "from scratch"
    return [
        *steps(facts, 8 if facts.num_images < FEW else 16, NUM_STEPS, fewest=12),
        *image_size(facts),
        Choice("optimizer.lr", 4e-4 if facts.pretrained else 1e-3, f"of what is new, {start}"),
        Choice("optimizer.backbone_lr", 0.25 if facts.pretrained else 1.0, f"of the encoder, as a share, {start}"),
        Choice("ema", {"decay": 0.998}, "averaged over the last 500 steps, weights are steadier"),
        Choice("data.scenes", "photos", "scaled by a half to one and a half, mirrored, slightly recoloured"),
    ]


def image_size(facts: Facts) -> list[Choice]:
    """The input's size by the images' aspect and the objects' size; nothing where no image could be read."""
    if not len(facts.image_sizes):
        return []
    height, width = np.median(facts.image_sizes, axis=0).tolist()
    patch = max(facts.model.patch_size)
    aspect = max(height, width) / min(height, width)
    longer, reason = math.sqrt(math.prod(facts.model.image_size) * aspect), "as many pixels as the model's"
    if facts.objects is not None and len(facts.objects.shares):
        sides = np.sqrt(facts.objects.shares.prod(axis=1)) * math.sqrt(height * width)
        small = max(float(np.quantile(sides, SMALL)), 1e-6)
        longer = TOKENS_OF_AN_OBJECT * patch * max(height, width) / small
        reason = f"all but {SMALL:.0%} of the objects are longer than {small:.0f} pixels of {width:.0f} × {height:.0f}"
    longer = min(max(longer, SHORTEST), LONGEST, max(float(height), float(width), SHORTEST))
    size = _multiple(
        (longer * height / max(height, width), longer * width / max(height, width)), facts.model.patch_size
    )
    return [Choice("model.image_size", size, f"{reason}; the aspect of the images, in whole patches")]


def _multiple(size: tuple[float, float], patch: Pair) -> Pair:
    rows, columns = (max(round(length / side), 1) * side for length, side in zip(size, patch, strict=True))
    return rows, columns


def _sizes(source: Source, channels: int) -> Iterator[Pair]:
    """Of evenly spaced images; those that cannot be read are for the training to complain about."""
    for index in np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).astype(int)) if len(source) else ():
        try:
            image = decode(source.read(int(index)), channels)
        except BadImage:
            continue
        yield (image.height, image.width) if isinstance(image, Image.Image) else (image.shape[-2], image.shape[-1])
