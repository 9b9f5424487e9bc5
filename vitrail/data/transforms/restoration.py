"""Pictures to restore: in training random parts of them, in evaluation all of them by tiles.

A picture without a true one is its own: what the model sees is made of it by ``PreprocessConfig.degrade``. Shapes:
(C, h, w) what the model sees, (C, s·h, s·w) what it is to become, s the scale.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitrail.config import to_dict
from vitrail.data.keyed_random import Keys, uniform
from vitrail.data.media.decode import BadImage
from vitrail.data.targets.image import unequal
from vitrail.data.transforms.degrade import BORDER, Degrade, DegradeConfig
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig, size_of, to_pillow, to_pixels
from vitrail.data.transforms.scene import Scene
from vitrail.data.transforms.tiles import TiledPicture, TiledScene
from vitrail.ops.grid import Pair

SYMMETRIES = 8  # of a square


class RestorationCrops:
    """Random parts of ``preprocess.size``, turned and mirrored at random; the part of the true picture is the target.

    A part that has been cut out is degraded with what is around it, so it is that of the degraded picture where its
    degradation has no random part.
    """

    deterministic = False

    def __init__(self, preprocess: PreprocessConfig) -> None:
        self.input, self.preprocess = preprocess, Preprocess(preprocess)
        self.degrade = Degrade(preprocess.degrade or DegradeConfig())

    def __str__(self) -> str:
        height, width = self.input.size
        changed = to_dict(self.degrade.config)
        plain = to_dict(DegradeConfig())
        made = ", ".join(f"{name} {value}" for name, value in changed.items() if value != plain[name])
        return f"random parts of {height} × {width} pixels, turned and mirrored; degraded by {made or 'nothing'}"

    def needed_side(self, size: Pair, key: int) -> int | None:
        """None: pictures keep their size."""
        return None

    def kept(self, image: Picture, target: Tensor | None) -> tuple[Picture, Tensor | None]:
        """What the model sees with the true picture, where nothing of the degradation is drawn; else what was given."""
        picture, scale = to_pixels(self.preprocess.checked(image)).contiguous(), self.degrade.config.scale
        if target is not None or self.degrade.config.draws or min(picture.shape[1:]) < scale:
            return picture, target
        height, width = (side - side % scale for side in picture.shape[1:])
        truth = picture[:, :height, :width].contiguous()
        return self.degrade(truth, 0), truth

    def scene(self, image: Picture, target: Tensor | None, key: int = 0, size: Pair | None = None) -> Scene[Tensor]:
        """A part and what it is to become. Smaller pictures are continued by their mirror image.

        Raises:
            BadImage: the true picture is not as many times larger as the scale says.
        """
        given = to_pixels(self.preprocess.checked(image))
        scale, draws = self.degrade.config.scale, uniform(np.array([key], np.uint64), "part", 3)[0]
        if target is None:
            truth = filling(given, self.input.size, scale)
            seen, truth = self._degraded(truth, draws, key)
        else:
            pair = paired(given, target, scale)
            given, truth = (filling(each, self.input.size, by) for each, by in zip(pair, (1, scale), strict=True))
            rows, columns = places((given.shape[1], given.shape[2]), self.input.size, draws)
            seen, truth = given[:, rows, columns], truth[:, enlarged(rows, scale), enlarged(columns, scale)]
        symmetry = int(draws[2] * SYMMETRIES)
        square = self.input.size[0] == self.input.size[1]
        return Scene(turned(seen, symmetry, square), turned(truth, symmetry, square))

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor:
        """uint8 (B, C, H, W) → float32, normalised."""
        return self.preprocess.finish(pixels)

    def _degraded(self, picture: Tensor, draws: np.ndarray, key: int) -> tuple[Tensor, Tensor]:
        """A part of a picture as it is seen, and as it is."""
        scale = self.degrade.config.scale
        size = picture.shape[1] // scale, picture.shape[2] // scale
        inner = places(size, self.input.size, draws)
        outer = [
            slice(max(0, each.start - BORDER), min(side, each.stop + BORDER))
            for each, side in zip(inner, size, strict=True)
        ]
        seen = self.degrade(picture[:, enlarged(outer[0], scale), enlarged(outer[1], scale)], key)
        rows, columns = (
            slice(each.start - around.start, each.stop - around.start)
            for each, around in zip(inner, outer, strict=True)
        )
        return seen[:, rows, columns], picture[:, enlarged(inner[0], scale), enlarged(inner[1], scale)]


class RestorationEvaluation:
    """All of a picture as a model sees it, by tiles, with the true one.

    Args:
        batch_size: tiles in a forward pass at most.
    """

    deterministic = False

    def __init__(self, preprocess: PreprocessConfig, batch_size: int) -> None:
        self.input, self.preprocess, self.batch_size = preprocess, Preprocess(preprocess), batch_size
        self.degrade = Degrade(preprocess.degrade or DegradeConfig())

    def needed_side(self, size: Pair, key: int) -> int | None:
        """None: pictures keep their size."""
        return None

    def scene(self, image: Picture, target: Tensor | None, key: int = 0, size: Pair | None = None) -> Scene[Tensor]:
        """What is left over when the scale divides the sides is cut off at the bottom and right. Raises as above."""
        given = to_pixels(self.preprocess.checked(image))
        scale = self.degrade.config.scale
        if target is None:
            height, width = (side - side % scale for side in given.shape[1:])
            if not height or not width:
                raise BadImage(
                    f"has {given.shape[2]} × {given.shape[1]} pixels, too few to be made {scale} times smaller"
                )
            truth = given[:, :height, :width]
            given = self.degrade(truth, key)
        else:
            given, truth = paired(given, target, scale)
        return TiledScene(TiledPicture.of(given, self.preprocess, self.batch_size), truth)

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor:
        """uint8 (B, C, H, W) → float32, normalised."""
        return self.preprocess.finish(pixels)


def paired(given: Tensor, target: Tensor, scale: int) -> tuple[Tensor, Tensor]:
    """What is seen and the true picture, with as many channels.

    Raises:
        BadImage: it is not as many times larger.
    """
    if why := unequal(size_of(given), size_of(target), scale):
        raise BadImage(why)
    if len(given) == 1 and len(target) == 3:
        target = to_pixels(to_pillow(target).convert("L"))
    return given, target


def filling(picture: Tensor, size: Pair, scale: int = 1) -> Tensor:
    """The picture, continued by its mirror image where it is smaller than ``scale`` times the size, with sides that the
    scale divides."""
    wanted = [max(side // scale, least) * scale for side, least in zip(picture.shape[1:], size, strict=True)]
    below, right = (max(0, side - own) for side, own in zip(wanted, picture.shape[1:], strict=True))
    if below or right:
        picture = torch.from_numpy(np.pad(picture.numpy(), ((0, 0), (0, below), (0, right)), mode="symmetric"))
    return picture[:, : wanted[0], : wanted[1]]


def places(size: Pair, wanted: Pair, draws: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a part, by two draws from 0 to 1."""
    rows, columns = (
        slice(start := int(draw * (side - length + 1)), start + length)
        for draw, side, length in zip(draws[:2].tolist(), size, wanted, strict=True)
    )
    return rows, columns


def enlarged(span: slice, scale: int) -> slice:
    """The same of a picture that is so many times larger."""
    return slice(span.start * scale, span.stop * scale)


def turned(picture: Tensor, symmetry: int, square: bool) -> Tensor:
    """One of the eight symmetries of a square; of other rectangles one of four."""
    if symmetry & 1:
        picture = picture.flip(-1)
    if symmetry & 2:
        picture = picture.flip(-2)
    return (picture.transpose(-1, -2) if symmetry & 4 and square else picture).contiguous()
