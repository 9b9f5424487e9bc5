"""From a sampler's step to a finished batch: read, decode, transform, stack, mix. It runs in the loader's workers."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.data import keyed_random
from vitrail.data.batch import Batch, TargetBatch, tensor_targets
from vitrail.data.keyed_random import Keys
from vitrail.data.loading.sampler import Step
from vitrail.data.media.decode import BadImage, decode, decode_enough
from vitrail.data.source import Source
from vitrail.data.transforms.combine import Combine, CombinedBatch
from vitrail.data.transforms.mix import Mix
from vitrail.data.transforms.preprocess import Picture, to_pixels
from vitrail.data.transforms.scene import PartsTransform, Scene, SceneTransform
from vitrail.data.transforms.tile_augment import TileAugment
from vitrail.data.transforms.tiles import TiledEvaluation, TiledScene
from vitrail.errors import UserError


@dataclass(eq=False, kw_only=True)
class Assembly:
    """``assembly[step]`` is the batch of that step; a user's error is returned, since a worker cannot raise it.

    In evaluation of spatial targets the batch holds a list of each image's own target, and ``geometries``.

    Attributes:
        seed: with a step's epoch and a sample's index and repeat, the key of the sample's draws.
        mix: blends the finished batch, keyed by (seed, epoch, step).
        combine: draws the input size of a step, keyed in the same way, and makes scenes of several samples.
        skip_bad: list unreadable samples in ``batch["bad"]`` and leave them out, instead of failing.
        cached: keep the transform's first half of every sample; each process has its own store.
        kept_bytes: of pictures that are kept decoded, with their targets, where samples are parts of them.
    """

    source: Source
    transform: SceneTransform[Any]
    seed: int
    mix: Mix | None
    combine: Combine[Any] | None
    skip_bad: bool
    cached: bool
    kept_bytes: int = 0

    def __post_init__(self) -> None:
        self._room = self.kept_bytes
        self._pictures: dict[int, tuple[Picture, Tensor | None]] = {}

    def __getitem__(self, step: Step) -> Batch | UserError:
        try:
            return self._assemble(step)
        except UserError as error:
            return error

    def _assemble(self, step: Step) -> Batch:
        keys = keyed_random.keys(self.seed, "sample", step.epoch, step.index, step.repeat)
        combined = self._combined(step)
        rows: list[Scene[Any]] = []
        good: list[int] = []
        bad: list[tuple[int, str]] = []
        for position, (index, key) in enumerate(zip(step.index.tolist(), keys.tolist(), strict=True)):
            try:
                rows.append(self._row(index, key) if combined is None else combined.scene(self, index, key))
                good.append(position)
            except BadImage as error:
                if not self.skip_bad:
                    raise error.named(self.source.name(index)) from None
                bad.append((index, f"{self.source.name(index)} {error}"))
        if not rows:
            raise UserError(f"all {len(bad)} images of a batch are bad: {bad[0][1]}; see `vitrail data check`")
        index = step.index[good]
        batch = self._batch(self.transform if combined is None else combined.augment, rows, index, keys[good])
        batch |= {"index": torch.from_numpy(index), "keys": torch.from_numpy(keys[good].view(np.int64))}
        if self.mix is not None:
            key = keyed_random.key(self.seed, "mix", step.epoch, step.step)
            batch["images"], batch["targets"] = self.mix(batch["images"], tensor_targets(batch), key)
        return batch | {"bad": bad} if bad else batch

    def scene(self, transform: SceneTransform[Any], index: int, key: int) -> Scene[Any]:
        """The sample at ``index`` with its spatial target, read and transformed.

        Raises:
            BadImage: it cannot be read.
        """
        if isinstance(transform, PartsTransform) and self.kept_bytes:
            image, target = self._decoded(transform, index)
            return cast("SceneTransform[Any]", transform).scene(image, target, key)
        parts = isinstance(transform, TileAugment)
        return self._transformed(transform, index, self._target(index, in_parts=parts), key)

    def partner(self, transform: SceneTransform[Any], index: int, key: int) -> Scene[Any] | None:
        """The same for a sample that another one is combined with; None where it cannot be read and may be left out.

        Raises:
            UserError: it cannot be read, and may not.
        """
        try:
            return self.scene(transform, index, key)
        except BadImage as error:
            if not self.skip_bad:
                raise error.named(self.source.name(index)) from None
            return None

    def _combined(self, step: Step) -> CombinedBatch[Any] | None:
        """How the scenes of a step are combined; None: each is shown by itself, at the input's size."""
        if self.combine is None or self.combine.is_closed(step.epoch):
            return None
        return self.combine.batch(keyed_random.key(self.seed, "size", step.epoch, step.step))

    def _batch(self, transform: SceneTransform[Any], rows: list[Scene[Any]], index: np.ndarray, keys: Keys) -> Batch:
        """The finished images of samples that were read, with their targets."""
        if tiled := [row.tiled for row in rows if isinstance(row, TiledScene)]:
            return Batch(tiled=tiled, targets=cast("TargetBatch", [row.target for row in rows]))
        finished = transform.finish(torch.stack([row.pixels for row in rows]), keys)
        batch = cast("Batch", finished) if isinstance(finished, dict) else Batch(images=finished)
        kind, column = self.source.target_kind, self.source.targets
        found = [row.target for row in rows] if kind.spatial else kind.take(column, index)
        if geometries := [row.geometry for row in rows if row.geometry is not None]:
            batch |= {"targets": cast("TargetBatch", found), "geometries": geometries}
        elif (targets := kind.collate(found)) is not None:
            batch["targets"] = targets
        if padding := [row.padding for row in rows if row.padding is not None]:
            batch["padding"] = torch.stack(padding)
        return batch

    def _row(self, index: int, key: int) -> Scene[Any]:
        """A sample by itself; its pixels from memory where they are kept."""
        if not self.cached:
            return self.scene(self.transform, index, key)
        pixels, known = self._store
        if not known[index]:
            pixels[index] = self._transformed(self.transform, index, None, key).pixels
            known[index] = True
        return Scene(pixels[index], None)

    def _transformed(self, transform: SceneTransform[Any], index: int, target: object, key: int) -> Scene[Any]:
        """A sample with this target, decoded as finely as the transform needs it; where that shows tiles, a picture too
        large to be decoded is opened."""
        needed = partial(transform.needed_side, key=key)
        wanted = transform.input
        if isinstance(transform, TileAugment | TiledEvaluation):
            windows = self.source.windows(index, wanted.channels, wanted.reading)
            if windows is not None:
                return transform.scene(windows, target, key)
        image, size = decode_enough(self.source.read(index), wanted.channels, needed, reading=wanted.reading)
        return transform.scene(image, target, key, size)

    def _decoded(self, transform: PartsTransform, index: int) -> tuple[Picture, Tensor | None]:
        """A picture in full with its target, from memory as far as there is room."""
        if (kept := self._pictures.get(index)) is not None:
            return kept
        wanted = cast("SceneTransform[Any]", transform).input
        image = decode(self.source.read(index), wanted.channels, reading=wanted.reading)
        found = transform.kept(image, cast("Tensor | None", self._target(index)))
        if (size := sum(to_pixels(part).nbytes for part in found if part is not None)) <= self._room:
            self._room -= size
            self._pictures[index] = found
        return found

    def _target(self, index: int, *, in_parts: bool = False) -> object:
        kind = self.source.target_kind
        if not kind.spatial:
            return None
        target = (kind.opened if in_parts else kind.read)(self.source.targets, index)
        kind.require_known(target, len(self.source.classes))
        return target

    @cached_property
    def _store(self) -> tuple[Tensor, np.ndarray]:
        """uint8 (N, C, H, W), of which only what is written takes memory, and which rows those are."""
        shape = self.transform.input
        size = (len(self.source), shape.channels, *shape.size)
        return torch.empty(size, dtype=torch.uint8), np.zeros(len(self.source), dtype=bool)
