"""Batches of images whose targets have a place: boxes and masks for each image, or a class for each pixel."""

from __future__ import annotations

from typing import Any, Protocol, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.data.batch import Batch, TargetBatch
from vitrail.data.keyed_random import Keys
from vitrail.data.loading.assembly import Assembly
from vitrail.data.media.decode import decode
from vitrail.data.targets import Objects, ObjectsBatch
from vitrail.data.transforms.preprocess import Picture, PreprocessConfig
from vitrail.data.transforms.scene import Scene, Target


class SceneTransform(Protocol):
    """What ScenePreprocess and SceneAugment share: a half for one image with its target, and a half for a batch."""

    @property
    def input(self) -> PreprocessConfig:
        """The size and channels that come out."""

    @property
    def deterministic(self) -> bool:
        """``scene`` ignores its key."""

    def scene(self, image: Picture, target: Target, key: int) -> Scene:
        """An image and its target at the input size."""

    def finish(self, pixels: Tensor, keys: Keys) -> Tensor:
        """A batch of pixels to float32 (B, C, H, W)."""


class SceneAssembly(Assembly):
    """Its batches hold ``images``, ``targets`` and, where images may have a border, ``padding`` bool (B, H, W).

    ``targets`` is an :class:`ObjectsBatch`, or class maps int64 (B, H, W). In evaluation it is a list of each image's
    own :class:`Objects` or map uint8 (h, w), and ``geometries`` says where the inputs lie in those images.
    """

    transform: Any

    def _row(self, index: int, key: int) -> Scene:
        image = decode(self.source.read(index), self.transform.input.channels)
        target = self.source.targets[index]
        target = torch.from_numpy(target) if isinstance(target, np.ndarray) else target
        scene: Scene = self.transform.scene(image, target, key)
        return scene

    def _batch(self, rows: list[Scene], index: np.ndarray, keys: Keys) -> Batch:
        targets: list[Any] = [row.target for row in rows]
        batch: Batch = {"images": self.transform.finish(torch.stack([row.pixels for row in rows]), keys)}
        if geometries := [row.geometry for row in rows if row.geometry is not None]:
            batch |= {"targets": cast("TargetBatch", targets), "geometries": geometries}
        else:
            objects = isinstance(targets[0], Objects)
            batch["targets"] = ObjectsBatch.of(targets) if objects else torch.stack(targets).long()
        padding = [row.padding for row in rows if row.padding is not None]
        return batch | {"padding": torch.stack(padding)} if padding else batch
