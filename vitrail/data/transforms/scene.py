"""Images with their targets: at the model's size, and augmented in training with spatial targets moved along."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeAlias, runtime_checkable

import torch
from torch import Tensor

from vitrail.data import keyed_random
from vitrail.data.keyed_random import Keys
from vitrail.data.media.decode import BadImage
from vitrail.data.targets import T, TargetKind
from vitrail.data.transforms.colour import recolour
from vitrail.data.transforms.elastic import bent, displacement
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import LONGEST, Picture, Preprocess, PreprocessConfig, size_of, to_pixels
from vitrail.data.transforms.rotate import Fill, quarter_turned, rotated
from vitrail.data.transforms.scene_config import SceneAugmentConfig
from vitrail.errors import UserError
from vitrail.ops.grid import Pair

if TYPE_CHECKING:
    from torchvision.tv_tensors import TVTensor

Kind: TypeAlias = TargetKind[T, Any]
Parts: TypeAlias = "dict[str, TVTensor]"


class Scene(Generic[T]):
    """An image at the model's size with its target.

    Attributes:
        pixels: uint8 (C, H, W).
        target: if it is spatial in pixels of the input, or of the image where there is a geometry.
        padding: bool (H, W), true beyond the image; None where nothing can be.
        geometry: in evaluation of spatial targets, where the input lies in the image.
    """

    __slots__ = ("geometry", "padding", "pixels", "target")

    def __init__(
        self, pixels: Tensor, target: T, padding: Tensor | None = None, geometry: ImageGeometry | None = None
    ) -> None:
        self.pixels, self.target, self.padding, self.geometry = pixels, target, padding, geometry

    def outside(self) -> Tensor:
        """The padding, where there is none too: bool (H, W)."""
        return self.pixels.new_zeros(self.pixels.shape[1:], dtype=torch.bool) if self.padding is None else self.padding


class SceneTransform(Protocol[T]):
    """What a loader applies: a half for one image with its target, and a half for a batch of images."""

    @property
    def input(self) -> PreprocessConfig:
        """The size and channels that come out."""

    @property
    def deterministic(self) -> bool:
        """``scene`` ignores its key, and its pixels, (C, H, W) at the input size, ignore the target."""

    def needed_side(self, size: Pair, key: int) -> int | None:
        """How long the sides of an image of this (height, width) need be; None: as long as they are."""

    def scene(self, image: Picture, target: T, key: int, size: Pair | None = None) -> Scene[T]:
        """An image and its target, of one shape for all images.

        Args:
            size: (height, width) of the image in full, if it was decoded at a fraction of it; the target's is that.
        """

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor | dict[str, Tensor]:
        """A batch of pixels to float32 (B, C, H, W), or to several such by name."""


@runtime_checkable
class PartsTransform(Protocol):
    """One whose samples are small parts of pictures, so that decoded pictures are worth keeping."""

    def kept(self, image: Picture, target: Tensor | None) -> tuple[Picture, Tensor | None]:
        """A picture and its target as ``scene`` takes them: what is the same for all parts is done once."""


class ImageTransform(Protocol):
    """What Preprocess, Augment and Views share: the same without targets."""

    @property
    def input(self) -> PreprocessConfig:
        """The size and channels that come out."""

    @property
    def deterministic(self) -> bool:
        """``pixels`` ignores its key."""

    def needed_side(self, size: Pair, key: int) -> int | None:
        """How long the sides of an image of this (height, width) need be; None: as long as they are."""

    def pixels(self, image: Picture, key: int, size: Pair | None = None) -> Tensor:
        """uint8, of one shape for all images; where ``deterministic``, (C, H, W) at the input size.

        Args:
            size: (height, width) of the image in full, if it was decoded at a fraction of it.
        """

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor | dict[str, Tensor]:
        """A batch of them to float32 (B, C, H, W), or to several such by name."""


class ImageScenes(Generic[T]):
    """An image transform where targets have no place in the image: they stay as they are."""

    def __init__(self, transform: ImageTransform) -> None:
        self.transform = transform
        self.input, self.deterministic, self.finish = transform.input, transform.deterministic, transform.finish
        self.needed_side = transform.needed_side

    def scene(self, image: Picture, target: T, key: int, size: Pair | None = None) -> Scene[T]:
        """The transformed image with the target itself."""
        return Scene(self.transform.pixels(image, key, size), target)


class ScenePreprocess(Generic[T]):
    """The inference preprocessing, of an image and its target together."""

    deterministic = False
    """The targets are not kept in memory, so nor are the pixels."""

    def __init__(self, config: PreprocessConfig, kind: Kind[T]) -> None:
        self.input, self.kind = config, kind
        self.preprocess = Preprocess(config)

    def needed_side(self, size: Pair, key: int) -> int | None:
        """As in prediction."""
        return self.preprocess.sufficient

    def scene(self, image: Picture, target: T, key: int = 0, size: Pair | None = None) -> Scene[T]:
        """The image at the input size with its target.

        Raises:
            BadImage: the target is that of an image of another size.
        """
        geometry = self.geometry(size or size_of(image), target)
        moved = self.kind.to_input(target, geometry)
        return Scene(self.preprocess.pixels(image), moved, self.padding(geometry))

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor:
        """uint8 (B, C, H, W) → float32, normalised."""
        return self.preprocess.finish(pixels)

    def geometry(self, size: Pair, target: T) -> ImageGeometry:
        """Where the input lies in an image of this (height, width). Raises as above."""
        require_size(self.kind, target, size)
        return self.preprocess.geometry(size)

    def padding(self, geometry: ImageGeometry) -> Tensor | None:
        """bool (H, W), true beyond the image; None where nothing can be."""
        return geometry.padding() if self.input.resize == "pad" else None


class SceneEvaluation(ScenePreprocess[T]):
    """The same for evaluation: predictions are compared with the target in the image's own pixels."""

    def needed_side(self, size: Pair, key: int) -> int | None:
        """None: what is measured is decoded in full."""
        return None

    def scene(self, image: Picture, target: T, key: int = 0, size: Pair | None = None) -> Scene[T]:
        """The image at the input size with its target as it is. Raises as above."""
        geometry = self.geometry(size or size_of(image), target)
        return Scene(self.preprocess.pixels(image), target, self.padding(geometry), geometry)


class SceneAugment(Generic[T]):
    """``SceneAugment(config, preprocess, kind).scene(image, target, key)``: augmented, of the input's size.

    Images and the parts of their targets are moved by torchvision's v2, as ``tv_tensors``.

    Args:
        canvas: (height, width) of what comes out, in which images have their size in an input of ``preprocess.size``;
            None: of that input.

    Raises:
        UserError: colours are changed of images that are neither grey nor RGB.
    """

    deterministic = False

    def __init__(
        self, config: SceneAugmentConfig, preprocess: PreprocessConfig, kind: Kind[T], canvas: Pair | None = None
    ) -> None:
        if config.colour and preprocess.channels not in (1, 3):
            raise UserError(f"scenes.colour needs 1 or 3 channels, not {preprocess.channels}; set it to zeros")
        self.config, self.kind = config, kind
        self.input = preprocess if canvas is None else replace(preprocess, size=canvas)
        self._plain = ScenePreprocess(preprocess, kind)

    def needed_side(self, size: Pair, key: int) -> int | None:
        """How long the sides need be: twice what the image is resized to at most."""
        needed = self._plain.preprocess.sufficient
        return needed if self.config.scale is None else math.ceil(needed * max(1.0, self.config.scale[1]))

    def scene(self, image: Picture, target: T, key: int = 0, size: Pair | None = None) -> Scene[T]:
        """The augmented image with its moved target; objects that are out of view are left out.

        Raises:
            BadImage: the target is that of an image of another size.
        """
        from torchvision.transforms.v2 import functional as moves
        from torchvision.tv_tensors import Image as ImagePart
        from torchvision.tv_tensors import Mask

        with keyed_random.torch_seeded(key):
            resampled = self.config.scale_probability >= 1 or bool(torch.rand(1) < self.config.scale_probability)
            if self.config.scale is None and self.input == self._plain.input:
                made = self._plain.scene(image, target, key, size)
                parts: Parts = {"image": ImagePart(made.pixels), **self.kind.parts(made.target)}
                target, padding = made.target, made.padding
            else:
                size = size or size_of(image)
                require_size(self.kind, target, size)
                parts, padding = self._scaled(self._plain.preprocess.checked(image), size, target, resampled)
            if (self.config.rotate or self.config.elastic) and padding is None:
                padding = torch.zeros(size_of(parts["image"]), dtype=torch.bool)
            if padding is not None:
                parts["padding"] = Mask(padding)
            if resampled:
                parts = self._bent(parts)
            for flip, probability in (
                (moves.horizontal_flip, self.config.horizontal_flip),
                (moves.vertical_flip, self.config.vertical_flip),
            ):
                if torch.rand(1) < probability:
                    parts = {name: flip(part) for name, part in parts.items()}
            if self.config.quarter_turns and torch.rand(1) < self.config.quarter_turns:
                height, width = size_of(parts["image"])
                parts = quarter_turned(parts, int(torch.randint(1, 4, ())) if height == width else 2)
        padding = None if padding is None else parts["padding"].as_subclass(Tensor)
        pixels = parts["image"].as_subclass(Tensor)
        return Scene(pixels, self.kind.from_parts(target, parts, size_of(pixels)), padding)

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor:
        """Colours on uint8 (B, C, H, W), then float32 normalised."""
        if self.config.colour:
            pixels = recolour(pixels.float(), keys, self.config.colour)
        return self._plain.finish(pixels, keys)

    def at(self, size: Pair) -> SceneAugment[T]:
        """The same for an input of another (height, width)."""
        return self.like(replace(self.input, size=size))

    def tile(self, size: Pair) -> SceneAugment[T]:
        """The same for a part of this (height, width) of the input, which an image just covers at the aspect that it
        has in the entire input."""
        whole = self.input.size
        share = max(part / side for part, side in zip(size, whole, strict=True))
        height, width = (round(side * share) for side in whole)
        return self.like(replace(self.input, size=(height, width)), size)

    def like(self, preprocess: PreprocessConfig, canvas: Pair | None = None) -> SceneAugment[T]:
        """The same with another preprocessing."""
        return SceneAugment(self.config, preprocess, self.kind, canvas)

    def _bent(self, parts: Parts) -> Parts:
        """Turned and bent, with what is beyond the image where it has not been."""
        fills: dict[str, Fill] = {**self.kind.fills, "image": list(self._plain.preprocess.fill), "padding": 1}
        if self.config.rotate:
            parts = rotated(parts, self.config.rotate * (2 * float(torch.rand(1)) - 1), fills)
        if self.config.elastic is not None:
            parts = bent(parts, displacement(size_of(parts["image"]), self.config.elastic), fills)
        return parts

    def _scaled(self, image: Picture, size: Pair, target: T, resampled: bool) -> tuple[Parts, Tensor]:
        """The parts at a random multiple of their size in inference, or at that size, at a random place of the input;
        and which pixels (H, W) lie beyond the image."""
        from torchvision.transforms.v2 import functional as moves
        from torchvision.tv_tensors import Image as ImagePart

        wanted, factors = self.input.size, self.config.scale if self.config.scale and resampled else (1.0, 1.0)
        factor = float(factors[0] + torch.rand(1) * (factors[1] - factors[0]))
        height, width = self._plain.preprocess.resized(size, factor)
        resized = min(height, LONGEST * wanted[0]), min(width, LONGEST * wanted[1])  # a strip that covers the input
        pixels = to_pixels(self._plain.preprocess.stretch(image, resized))
        parts: Parts = {"image": ImagePart(pixels)}
        parts |= {name: _resized(part, resized) for name, part in self.kind.parts(target).items()}
        if resized == wanted:
            return parts, torch.zeros(wanted, dtype=torch.bool)
        top, left = (_start(length, want) for length, want in zip(resized, wanted, strict=True))
        below, right = (begin + want - length for begin, want, length in zip((top, left), wanted, resized, strict=True))
        border = [max(beyond, 0) for beyond in (-left, -top, right, below)]
        for name, part in parts.items():
            if any(border):
                fill = list(self._plain.preprocess.fill) if name == "image" else self.kind.fills.get(name, 0)
                part = moves.pad(part, border, fill=fill)
            parts[name] = moves.crop(part, max(top, 0), max(left, 0), *wanted)
        padding = torch.ones(wanted, dtype=torch.bool)
        padding[border[1] : wanted[0] - border[3], border[0] : wanted[1] - border[2]] = False
        return parts, padding


def _resized(part: TVTensor, size: tuple[int, int]) -> TVTensor:
    """At (height, width). Torchvision's masks would be shifted by half a pixel of the larger grid."""
    from torchvision.transforms.v2 import functional as moves
    from torchvision.tv_tensors import Mask, wrap

    if not isinstance(part, Mask):
        return moves.resize(part, list(size), antialias=True)
    plain = part.as_subclass(Tensor)
    own = size_of(plain)
    return wrap(ImageGeometry((0, 0, own[1], own[0]), size, own).maps(plain), like=part)


def require_size(kind: Kind[T], target: T, size: tuple[int, int]) -> None:
    """Refuse a target of an image of another (height, width).

    Raises:
        BadImage: with both sizes.
    """
    if (own := kind.size(target)) != size:
        raise BadImage(f"has {size[1]} × {size[0]} pixels, and its annotations are of {own[1]} × {own[0]}")


def _start(length: int, wanted: int) -> int:
    """Where ``wanted`` pixels begin, of which as many as there can be lie within ``length``."""
    drawn = int(torch.randint(0, abs(length - wanted) + 1, size=())) if length != wanted else 0
    return drawn if length > wanted else drawn - (wanted - length)
