"""Training on tiles: from a picture a random tile, most often of one of its objects, which is then augmented."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from PIL import Image
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.data import keyed_random
from vitrail.data.media.windows import WindowedTiff
from vitrail.data.targets import T
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import Picture, PreprocessConfig, size_of
from vitrail.data.transforms.scene import Kind, Scene, SceneAugment, require_size
from vitrail.data.transforms.scene_config import SceneAugmentConfig
from vitrail.data.transforms.tiles import cut
from vitrail.ops.grid import Pair
from vitrail.ops.tiles import Span, Tile, TileConfig

TRIES = 10  # places at which a tile without objects is looked for


@config
class TileSampling:
    """Args:
    visible: share of its box from which an object that a tile cuts is kept; below, it is left out.
    background: share of the tiles that lie anywhere, where there is a place without objects there; the others show an
        object, drawn from all of the picture's, at a random place in the tile. Pictures without objects come as often
        as any.
    """

    visible: Annotated[float, Field(ge=0, le=1)] = 0.25
    background: Annotated[float, Field(ge=0, le=1)] = 0.2

    def in_words(self, tiles: TileConfig) -> str:
        """What a training on these tiles does."""
        height, width = tiles.size
        return (
            f"tiles: random ones of {height} × {width} pixels in training, {1 - self.background:.0%} around an object, "
            f"{self.background:.0%} background if there is any (data.tiles.background); cut objects count from "
            f"{self.visible:.0%} of their box on (data.tiles.visible); validation and prediction by all tiles, which "
            f"overlap by {tiles.overlap:.0%}, merged"
        )


class TileAugment(SceneAugment[T]):
    """The augmentation of a random tile of the picture, in the place of the picture.

    Args:
        preprocess: with ``tiles``.
        sampling: which tiles; the other arguments are those of :class:`SceneAugment`.
    """

    def __init__(
        self,
        config: SceneAugmentConfig,
        preprocess: PreprocessConfig,
        kind: Kind[T],
        canvas: Pair | None = None,
        sampling: TileSampling | None = None,
    ) -> None:
        super().__init__(config, preprocess, kind, canvas)
        assert preprocess.tiles is not None, "the preprocessing has tiles"
        self.tiles, self.sampling = preprocess.tiles, sampling or TileSampling()

    def needed_side(self, size: Pair, key: int) -> int | None:
        """None: a tile shows the picture's own pixels."""
        return None

    def scene(self, image: Picture | WindowedTiff, target: T, key: int = 0, size: Pair | None = None) -> Scene[T]:
        """An augmented tile with what it shows of the target. Raises as :class:`SceneAugment`."""
        own = size_of(image)
        require_size(self.kind, target, own)
        tile = drawn(own, self.tiles.size, self.kind.places(target), self.sampling.background, key)
        geometry = ImageGeometry(tile.box_xyxy, tile.size, own)
        return super().scene(_cut(image, tile), self.kind.cut_out(target, geometry, self.sampling.visible), key)

    def like(self, preprocess: PreprocessConfig, canvas: Pair | None = None) -> TileAugment[T]:
        """As of :class:`SceneAugment`."""
        return TileAugment(self.config, preprocess, self.kind, canvas, self.sampling)


def drawn(size: Pair, tile: Pair, boxes_xyxy: Tensor, background: float, key: int) -> Tile:
    """A tile of a picture of ``size`` (height, width), by its key: around one of the boxes (n, 4), all of which fits is
    shown, or anywhere."""
    draws = keyed_random.uniform(np.array([key], np.uint64), "tile", 4 + 2 * TRIES)[0].tolist()
    lengths = min(tile[0], size[0]), min(tile[1], size[1])
    if len(boxes_xyxy) and draws[0] >= background:
        left, top, right, bottom = boxes_xyxy[int(draws[1] * len(boxes_xyxy))].tolist()
        rows = _around((top, bottom), lengths[0], size[0], draws[2])
        return Tile(rows, _around((left, right), lengths[1], size[1], draws[3]))
    for down, across in zip(draws[4::2], draws[5::2], strict=True):
        rows, columns = (
            _at(draw * (whole - length), length, whole)
            for draw, length, whole in zip((down, across), lengths, size, strict=True)
        )
        if not _shown(boxes_xyxy, Tile(rows, columns)).any():
            break
    return Tile(rows, columns)


def _around(side: tuple[float, float], length: int, whole: int, draw: float) -> Span:
    """A tile along an axis that shows all of a box's side, or, where that is longer, nothing else."""
    low, high = sorted((side[1] - length, side[0]))
    return _at(low + draw * (high - low), length, whole)


def _at(start: float, length: int, whole: int) -> Span:
    first = min(max(round(start), 0), whole - length)
    return first, first + length


def _shown(boxes_xyxy: Tensor, tile: Tile) -> Tensor:
    """bool (n,): of which boxes a tile shows anything."""
    left, top, right, bottom = tile.box_xyxy
    x0, y0, x1, y1 = boxes_xyxy.unbind(-1)
    return (x0 < right) & (x1 > left) & (y0 < bottom) & (y1 > top)


def _cut(image: Picture | WindowedTiff, tile: Tile) -> Picture:
    return image.crop(tile.box_xyxy) if isinstance(image, Image.Image) else cut(image, tile)
