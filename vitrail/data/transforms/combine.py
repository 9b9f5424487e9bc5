"""What training does with more than one scene at a time: images made of several, and an input size for each batch."""

from __future__ import annotations

from typing import Generic, Protocol

import numpy as np
import torch

from vitrail.data import keyed_random
from vitrail.data.keyed_random import Keys
from vitrail.data.targets import T
from vitrail.data.transforms.scene import Scene, SceneAugment
from vitrail.errors import UserError

PARTNERS = 3  # images that are tried before an image becomes its own partner
PASTED = 0.5  # of the objects of the other image, on average


class Scenes(Protocol[T]):
    """The samples of a loader's source, read and augmented."""

    def scene(self, transform: SceneAugment[T], index: int, key: int) -> Scene[T]:
        """The sample at ``index``.

        Raises:
            BadImage: it cannot be read.
        """

    def partner(self, transform: SceneAugment[T], index: int, key: int) -> Scene[T] | None:
        """The same; None where it cannot be read and such samples are left out.

        Raises:
            UserError: it cannot be read, and that is an error.
        """


class Combine(Generic[T]):
    """``Combine(augment, num_samples).batch(key).scene(scenes, index, key)``: a sample, maybe combined with others.

    Which others, and how, depends on the sample's key alone.

    Args:
        epochs: of the training, whose last ones combine nothing (``SceneAugmentConfig.close``); None: none is the last.

    Raises:
        UserError: targets of this kind cannot be combined so, or the input cannot have another size.
    """

    def __init__(self, augment: SceneAugment[T], num_samples: int, epochs: int | None = None) -> None:
        config = augment.config
        wanted = {name: getattr(config, name) > 0 for name in ("mosaic", "copy_paste", "mixup")}
        if fault := augment.kind.combine_fault(**wanted):
            raise UserError(fault)
        self._closing = None if epochs is None else epochs - round(config.close * epochs)
        self._batches = [CombinedBatch(augment.at(size), num_samples) for size in config.sizes(augment.input.size)]

    def __bool__(self) -> bool:
        return self._batches[0].combines or len(self._batches) > 1

    def is_closed(self, epoch: int) -> bool:
        """Whether images of this epoch are shown one by one, at the input's size."""
        return self._closing is not None and epoch >= self._closing

    def batch(self, key: int) -> CombinedBatch[T]:
        """What makes the scenes of a batch, at an input size drawn by its key."""
        draw = keyed_random.uniform(_keys(key), "size", 1).item()
        return self._batches[int(draw * len(self._batches))]


class CombinedBatch(Generic[T]):
    """Mosaic, copy-paste and mixup, in this order, each of scenes that ``augment`` makes at one input size."""

    def __init__(self, augment: SceneAugment[T], num_samples: int) -> None:
        self.augment, self.num_samples = augment, num_samples
        self.kind, config = augment.kind, augment.config
        self._often = np.array([config.mosaic, config.copy_paste, config.mixup])
        self.combines = bool(self._often.any())

    def scene(self, scenes: Scenes[T], index: int, key: int) -> Scene[T]:
        """The sample at ``index``, maybe combined with others; where any may be, all have their padding.

        Raises:
            BadImage: the sample itself cannot be read.
            UserError: as of :meth:`Scenes.partner`.
        """
        if not self.combines:
            return scenes.scene(self.augment, index, key)
        keys = _keys(key)
        mosaic, copy_paste, mixup = keyed_random.uniform(keys, "combine", 3)[0] < self._often
        made = self._mosaic(scenes, index, keys) if mosaic else scenes.scene(self.augment, index, key)
        if copy_paste:
            made = self._pasted(made, self._partner(scenes, self.augment, index, keys, "copy_paste"), keys)
        if mixup:
            made = self._blended(made, self._partner(scenes, self.augment, index, keys, "mixup"))
        return Scene(made.pixels, made.target, made.outside())

    def _partner(self, scenes: Scenes[T], augment: SceneAugment[T], index: int, keys: Keys, stream: str) -> Scene[T]:
        """Another sample; after some that cannot be read the sample itself, augmented anew."""
        keys = keyed_random.salted(keys, stream)
        for draw in keyed_random.uniform(keys, "partner", PARTNERS)[0]:
            if (found := scenes.partner(augment, int(draw * self.num_samples), int(keys[0]))) is not None:
                return found
        return scenes.scene(augment, index, int(keys[0]))

    def _mosaic(self, scenes: Scenes[T], index: int, keys: Keys) -> Scene[T]:
        """The sample and three others, around a point in the middle half of the input."""
        size, channels = self.augment.input.size, self.augment.input.channels
        draws = keyed_random.uniform(keys, "centre", 2)[0]
        rows, columns = (_two_parts(side, draw) for side, draw in zip(size, draws, strict=True))
        pixels, padding = torch.empty((channels, *size), dtype=torch.uint8), torch.empty(size, dtype=torch.bool)
        targets, corners = [], []
        for place, (row, column) in enumerate((row, column) for row in rows for column in columns):
            tile = self.augment.tile((len(row), len(column)))
            if place:
                made = self._partner(scenes, tile, index, keys, f"tile {place}")
            else:
                made = scenes.scene(tile, index, int(keys[0]))
            part = slice(row.start, row.stop), slice(column.start, column.stop)
            pixels[:, *part], padding[part] = made.pixels, made.outside()
            targets.append(made.target)
            corners.append((row.start, column.start))
        return Scene(pixels, self.kind.joined(targets, corners, size), padding)

    def _pasted(self, scene: Scene[T], other: Scene[T], keys: Keys) -> Scene[T]:
        """Some objects of another scene over this one, without blending, which does not matter (Ghiasi et al. 2021)."""
        draws = keyed_random.uniform(keys, "pasted", self.kind.num_objects(other.target))[0]
        target, over = self.kind.pasted(scene.target, other.target, torch.from_numpy(draws < PASTED))
        return Scene(torch.where(over, other.pixels, scene.pixels), target, scene.outside() & ~over)

    def _blended(self, scene: Scene[T], other: Scene[T]) -> Scene[T]:
        """The mean of two scenes, with the objects of both."""
        pixels = (scene.pixels.short() + other.pixels + 1) // 2
        target = self.kind.joined([scene.target, other.target], [(0, 0), (0, 0)], self.augment.input.size)
        return Scene(pixels.to(torch.uint8), target, scene.outside() & other.outside())


def _two_parts(side: int, draw: float) -> tuple[range, range]:
    """A side cut in two, neither shorter than a quarter."""
    cut = round(side * (1 + 2 * draw) / 4)
    return range(cut), range(cut, side)


def _keys(key: int) -> Keys:
    return np.array([key], dtype=np.uint64)
