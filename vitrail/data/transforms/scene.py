"""Images whose targets have a place: as a model sees them, and varied in training, with boxes and masks moved along."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, Any, TypeAlias

import torch
from PIL import Image
from pydantic import BeforeValidator, Field
from torch import Tensor

from vitrail.config import config
from vitrail.data import keyed_random
from vitrail.data.keyed_random import Keys
from vitrail.data.media.decode import BadImage
from vitrail.data.targets import Objects
from vitrail.data.transforms.batched import PositiveRange
from vitrail.data.transforms.colour import ColourConfig, recolour
from vitrail.data.transforms.geometry import ImageGeometry, clipped, visible
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig, to_pixels
from vitrail.errors import UserError, did_you_mean
from vitrail.ops import boxes
from vitrail.ops.segmentation_losses import IGNORE

Probability = Annotated[float, Field(ge=0, le=1)]
Parts: TypeAlias = dict[str, Any]  # of a scene, each a tv_tensor
Target = Objects | Tensor
"""The objects of an image, or its map of classes uint8 (H, W)."""


class Scene:
    """An image at the model's size with what stands where in it.

    Attributes:
        pixels: uint8 (C, H, W).
        target: in pixels of the input.
        padding: bool (H, W), true beyond the image; None where nothing can be.
        geometry: None, or where the input lies in the image; then the target is in the image's own pixels.
    """

    __slots__ = ("geometry", "padding", "pixels", "target")

    def __init__(
        self, pixels: Tensor, target: Target, padding: Tensor | None, geometry: ImageGeometry | None = None
    ) -> None:
        self.pixels, self.target, self.padding, self.geometry = pixels, target, padding, geometry


class ScenePreprocess:
    """The inference preprocessing, of an image and its target together."""

    deterministic = False
    """The targets are not kept in memory, so nor are the pixels."""

    def __init__(self, config: PreprocessConfig) -> None:
        self.input = config
        self.preprocess = Preprocess(config)

    def scene(self, image: Picture, target: Target, key: int = 0) -> Scene:
        """The image at the input size with its target.

        Raises:
            BadImage: the target is that of an image of another size.
        """
        size = size_of(image)
        _require_size(target, size)
        geometry = self.preprocess.geometry(size)
        padding = geometry.padding() if self.input.resize == "pad" else None
        moved = geometry.objects(target) if isinstance(target, Objects) else geometry.maps(target, IGNORE)
        return Scene(self.preprocess.pixels(image), moved, padding)

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor:
        """uint8 (B, C, H, W) → float32, normalised."""
        return self.preprocess.finish(pixels)


class SceneEvaluation(ScenePreprocess):
    """The same for measuring: an answer is compared with what the image shows, in the image's own pixels."""

    def scene(self, image: Picture, target: Target, key: int = 0) -> Scene:
        """The image at the input size with its target as it is. Raises as above."""
        size = size_of(image)
        _require_size(target, size)
        geometry = self.preprocess.geometry(size)
        padding = geometry.padding() if self.input.resize == "pad" else None
        return Scene(self.preprocess.pixels(image), target, padding, geometry)


@config
class SceneAugmentConfig:
    """What happens to training images with boxes, masks or class maps, in this order. The default does nothing.

    Attributes:
        scale: the image, fitted into the input, is resized by a factor from this range and then cropped or bordered at
            random (large-scale jitter, Ghiasi et al. 2021: 0.1 to 2); None: it is prepared as for inference.
        scale_probability: how often; else the factor is 1. Resampling blurs: what must be seen to the pixel is learned
            from images as they are.
        horizontal_flip, vertical_flip: probabilities.
        colour: of the pixels alone.
    """

    scale: PositiveRange | None = None
    scale_probability: Probability = 1.0
    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    colour: ColourConfig = ColourConfig()


SCENE_PRESETS: dict[str, SceneAugmentConfig] = {
    "none": SceneAugmentConfig(),
    # photographs, fine-tuning
    "light": SceneAugmentConfig(scale=(0.8, 1.25), horizontal_flip=0.5),
    # handwriting: nothing mirrored
    "digits": SceneAugmentConfig(scale=(0.8, 1.25)),
    # photographs, long training: large-scale jitter
    "large": SceneAugmentConfig(
        scale=(0.1, 2.0), horizontal_flip=0.5, colour=ColourConfig(jitter=(0.3, 0.3, 0.3, 0.05), jitter_probability=0.8)
    ),
    # no up and no down, as under a microscope or from the air
    "any_side": SceneAugmentConfig(
        scale=(0.5, 1.5), horizontal_flip=0.5, vertical_flip=0.5, colour=ColourConfig(jitter=(0.2, 0.2, 0.2, 0.02))
    ),
}


def _by_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in SCENE_PRESETS:
        raise UserError(f"unknown augmentation of scenes {value!r}; {did_you_mean(value, SCENE_PRESETS)}")
    return SCENE_PRESETS[value]


SceneAugmentation = Annotated[SceneAugmentConfig, BeforeValidator(_by_name)]
"""A SceneAugmentConfig that may be written as a preset's name."""


class SceneAugment:
    """``SceneAugment(config, preprocess).scene(image, target, key)``: varied, of the input's size.

    Images, boxes and masks are moved by torchvision's v2, as ``tv_tensors``.

    Raises:
        UserError: colours are changed of images that are neither grey nor RGB.
    """

    deterministic = False

    def __init__(self, config: SceneAugmentConfig, preprocess: PreprocessConfig) -> None:
        if config.colour and preprocess.channels not in (1, 3):
            raise UserError(f"scenes.colour needs 1 or 3 channels, not {preprocess.channels}; set it to zeros")
        self.config, self.input = config, preprocess
        self._plain = ScenePreprocess(preprocess)

    def scene(self, image: Picture, target: Target, key: int = 0) -> Scene:
        """The varied image with its moved target; objects that are out of view are left out.

        Raises:
            BadImage: the target is that of an image of another size.
        """
        from torchvision.transforms.v2 import functional as moves
        from torchvision.tv_tensors import Mask

        if self.config.scale is None:
            made = self._plain.scene(image, target, key)
            pixels, target, padding = made.pixels, made.target, made.padding
        else:
            _require_size(target, size_of(image))
            pixels, padding = to_pixels(self._plain.preprocess.checked(image)), None
        with keyed_random.torch_seeded(key):
            parts = _wrapped(pixels, target)
            if self.config.scale is not None:
                parts, padding = self._placed(parts, self.config.scale)
            if padding is not None:
                parts["padding"] = Mask(padding)
            for flip, probability in (
                (moves.horizontal_flip, self.config.horizontal_flip),
                (moves.vertical_flip, self.config.vertical_flip),
            ):
                if torch.rand(1) < probability:
                    parts = {name: flip(part) for name, part in parts.items()}
        padding = None if padding is None else parts["padding"].as_subclass(Tensor)
        return Scene(parts["image"].as_subclass(Tensor), _unwrapped(parts, target), padding)

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor:
        """Colours on uint8 (B, C, H, W), then float32 normalised."""
        if self.config.colour:
            pixels = recolour(pixels.float(), keys, self.config.colour)
        return self._plain.finish(pixels, keys)

    def _placed(self, parts: Parts, factors: tuple[float, float]) -> tuple[Parts, Tensor]:
        """Resized by a random factor at a random place of the input; and which pixels (H, W) lie beyond the image."""
        from torchvision.transforms.v2 import functional as moves

        size, wanted = parts["image"].shape[-2:], self.input.size
        if self.config.scale_probability < 1 and torch.rand(1) >= self.config.scale_probability:
            factors = (1.0, 1.0)
        factor = factors[0] + torch.rand(1) * (factors[1] - factors[0])
        factor = min(w / s for w, s in zip(wanted, size, strict=True)) * factor
        resized = [max(int(length * factor), 1) for length in size]
        if tuple(size) == tuple(resized) == wanted:
            return parts, torch.zeros(wanted, dtype=torch.bool)
        top, left = (_start(length, want) for length, want in zip(resized, wanted, strict=True))
        below, right = (begin + want - length for begin, want, length in zip((top, left), wanted, resized, strict=True))
        border = [max(beyond, 0) for beyond in (-left, -top, right, below)]
        for name, part in parts.items():
            if resized != list(size):
                part = moves.resize(part, resized, antialias=True)
            if any(border):
                fill = list(self._plain.preprocess.fill) if name == "image" else IGNORE if name == "map" else 0
                part = moves.pad(part, border, fill=fill)
            parts[name] = moves.crop(part, max(top, 0), max(left, 0), *wanted)
        padding = torch.ones(wanted, dtype=torch.bool)
        padding[border[1] : wanted[0] - border[3], border[0] : wanted[1] - border[2]] = False
        return parts, padding


def size_of(image: Picture) -> tuple[int, int]:
    """(height, width)."""
    return (image.height, image.width) if isinstance(image, Image.Image) else (image.shape[-2], image.shape[-1])


def _require_size(target: Target, size: tuple[int, int]) -> None:
    own = target.size if isinstance(target, Objects) else tuple(target.shape[-2:])
    if own != size:
        raise BadImage(f"has {size[1]} × {size[0]} pixels, and its annotations are of {own[1]} × {own[0]}")


def _start(length: int, wanted: int) -> int:
    """Where ``wanted`` pixels begin, of which as many as there can be lie within ``length``."""
    drawn = int(torch.randint(0, abs(length - wanted) + 1, size=())) if length != wanted else 0
    return drawn if length > wanted else drawn - (wanted - length)


def _wrapped(pixels: Tensor, target: Target) -> Parts:
    """What torchvision moves."""
    from torchvision import tv_tensors

    parts = {"image": tv_tensors.Image(pixels)}
    if not isinstance(target, Objects):
        return parts | {"map": tv_tensors.Mask(target)}
    size = pixels.shape[-2:]
    box = tv_tensors.BoundingBoxes(target.boxes_xyxy, format="XYXY", canvas_size=size, clamping_mode=None)
    masks = {} if target.masks is None else {"masks": tv_tensors.Mask(target.masks.to(torch.uint8))}
    return parts | {"boxes": box} | masks


def _unwrapped(moved: Parts, target: Target) -> Target:
    if not isinstance(target, Objects):
        return moved["map"].as_subclass(Tensor)
    size = (moved["image"].shape[-2], moved["image"].shape[-1])
    whole = moved["boxes"].as_subclass(Tensor)
    cut = clipped(whole, size)
    masks = moved["masks"].as_subclass(Tensor).bool() if "masks" in moved else None
    if masks is not None:  # what is left of an object at the border may be smaller than what is left of its box
        cut = torch.where((cut != whole).any(dim=1, keepdim=True), boxes.of_masks(masks), cut)
    return visible(replace(target, boxes_xyxy=cut, masks=masks, size=size))
