"""Pictures seen tile by tile: the outputs of a model for each tile, one batch of tiles after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import groupby, islice
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from vitrail.data.media.decode import BadImage
from vitrail.data.media.windows import WindowedTiff
from vitrail.data.targets import T
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig, size_of, to_pillow, to_pixels
from vitrail.data.transforms.scene import Kind, Scene, SceneEvaluation
from vitrail.ops.tiles import Tile, TileGrid

AT_ONCE = 1 << 21  # pixels of inputs in a batch of tiles, which bounds memory whatever their size
NATIVE_AT_ONCE = 1 << 16  # the same of inputs in their own size, where every pixel may be a token
PILLOW = (1, 3)  # channels of its images; four are resized one by one, whether or not the last is transparency


def cut(pixels: Tensor | WindowedTiff, tile: Tile) -> Picture:
    """The part of a picture that a tile shows.

    Raises:
        BadImage: a file that is read window by window is damaged.
    """
    part = pixels[:, slice(*tile.rows), slice(*tile.columns)]
    return to_pillow(part) if len(part) in PILLOW else part.contiguous()


class TileOutputs(NamedTuple):
    """What a model makes of one tile."""

    tile: Tile
    geometry: ImageGeometry
    """Where the model's input lies in the tile, as if that were the picture."""
    outputs: Tensor
    """A row of the raw outputs, float32."""


@dataclass(frozen=True)
class TiledPicture:
    """A picture and the tiles that cover it, each of which is prepared as a picture by itself.

    Attributes:
        pixels: of the picture, uint8 (C, H, W), or of a file that is read window by window; where pictures keep their
            size also float32 with finer grey levels in the same range.
        batch_size: tiles in a forward pass at most; fewer where they are large.
    """

    pixels: Tensor | WindowedTiff
    grid: TileGrid
    preprocess: Preprocess
    batch_size: int
    device: torch.device | str = "cpu"

    @classmethod
    def of(cls, picture: Picture | WindowedTiff, preprocess: Preprocess, batch_size: int) -> TiledPicture:
        """The tiles by the preprocessing's config."""
        tiles = preprocess.config.tiles
        assert tiles is not None, "the preprocessing has tiles"
        if isinstance(picture, WindowedTiff):
            return cls(picture, TileGrid(picture.shape[1:], tiles), preprocess, batch_size)
        pixels = to_pixels(preprocess.checked(picture))
        return cls(pixels, TileGrid(size_of(picture), tiles), preprocess, batch_size)

    def to(self, device: torch.device | str) -> TiledPicture:
        """The same, with its tiles given to the model on a device."""
        return replace(self, device=device)

    def outputs(self, forward: Callable[..., Tensor]) -> Iterator[TileOutputs]:
        """Of every tile, row after row, computed as they are asked for.

        Args:
            forward: images (B, C, H, W) and, where there is one, their padding (B, H, W) → raw outputs.
        """
        for tiles in self._batches():
            images = self.preprocess.finish(torch.stack([self.preprocess.pixels(self._cut(tile)) for tile in tiles]))
            geometries = [self.preprocess.geometry(tile.size) for tile in tiles]
            padding = (each.to(self.device) for each in self.preprocess.padding(geometries))
            found = forward(images.to(self.device), *padding).detach().float()
            yield from map(TileOutputs, tiles, geometries, found)

    def _batches(self) -> Iterator[list[Tile]]:
        """The tiles in order, those of a batch with inputs of one size."""
        native = self.preprocess.config.resize == "none"
        for size, tiles in groupby(self.grid, key=lambda tile: tile.size if native else self.preprocess.config.size):
            count = (NATIVE_AT_ONCE if native else AT_ONCE) // (size[0] * size[1])
            while batch := list(islice(tiles, min(self.batch_size, max(1, count)))):
                yield batch

    def _cut(self, tile: Tile) -> Picture:
        try:
            if self.preprocess.config.resize != "none":
                return cut(self.pixels, tile)
            return continued(self.pixels[:, slice(*tile.rows), slice(*tile.columns)], self.grid.config.align)
        except BadImage as error:
            assert isinstance(self.pixels, WindowedTiff), "others are decoded"
            raise error.named(str(self.pixels.path)) from None


def continued(picture: Tensor, multiple: int) -> Tensor:
    """(C, H, W) continued at the bottom and right by its mirror image, to sides that are multiples of a number."""
    below, right = (-side % multiple for side in picture.shape[1:])
    if not below and not right:
        return picture.contiguous()
    return torch.from_numpy(np.pad(picture.numpy(), ((0, 0), (0, below), (0, right)), mode="symmetric"))


class TiledScene(Scene[T]):
    """A picture in tiles, in place of pixels, with its target as it is."""

    __slots__ = ("tiled",)

    def __init__(self, tiled: TiledPicture, target: T) -> None:
        super().__init__(torch.empty(0, dtype=torch.uint8), target)
        self.tiled = tiled


class TiledEvaluation(SceneEvaluation[T]):
    """The same for evaluation by tiles: predictions are compared with the target in the picture's own pixels.

    Args:
        config: with ``tiles``.
        batch_size: as of :class:`TiledPicture`.
    """

    def __init__(self, config: PreprocessConfig, kind: Kind[T], batch_size: int) -> None:
        super().__init__(config, kind)
        self.batch_size = batch_size

    def scene(
        self, image: Picture | WindowedTiff, target: T, key: int = 0, size: tuple[int, int] | None = None
    ) -> TiledScene[T]:
        """The picture with its target. Raises as :class:`SceneEvaluation`."""
        self.geometry(size_of(image), target)
        return TiledScene(TiledPicture.of(image, self.preprocess, self.batch_size), target)
