"""Features of a frozen backbone for the images of a split, kept in memory or recomputed each time.

N images, each in V views, D width, T patch tokens: a vector (D,) or tokens (T, D) a view.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.console import Progress
from vitrail.data.batch import tensor_targets
from vitrail.data.loading.loader import Loader, LoaderConfig
from vitrail.data.loading.sampler import Sampler
from vitrail.data.source import Source
from vitrail.data.transforms.scene import ImageTransform
from vitrail.vit import ViT

Batches: TypeAlias = Iterator[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Reader:
    """A frozen backbone and what is taken from it: a vector an image, or with ``pool`` None its patch tokens."""

    vit: ViT
    pool: nn.Module | None
    device: torch.device

    @torch.no_grad()
    def __call__(self, images: Tensor, layers: Sequence[int]) -> list[Tensor]:
        """B C H W → for each layer, after the final norm, B D or B T D."""
        found = self.vit.intermediates(images.to(self.device, non_blocking=True), layers, norm=True)
        return [each.patches if self.pool is None else self.pool(each.prefix, each.patches) for each in found]

    @property
    def dtype(self) -> torch.dtype:
        """Of stored features: tokens in half precision, bfloat16 where no norm bounds them."""
        if self.pool is not None:
            return torch.float32
        return torch.float16 if self.vit.config.final_norm else torch.bfloat16

    def num_bytes(self, size: tuple[int, int]) -> int:
        """Memory of the patch tokens of one view of ``size`` (height, width) in one layer."""
        rows, columns = self.vit.embed.grid(size)
        return rows * columns * self.vit.config.dim * self.dtype.itemsize


@dataclass(frozen=True, kw_only=True, eq=False)
class Features(ABC):
    """Labelled features, batch by batch.

    Attributes:
        labels: int64 (N,).
        num_views: V.
    """

    labels: Tensor
    num_views: int = 1

    def __len__(self) -> int:
        return len(self.labels)

    @abstractmethod
    def subset(self, rows: np.ndarray) -> Features:
        """Those of the images at ``rows``."""

    @abstractmethod
    def batches(self, size: int, *, seed: int | None = None, epochs: int = 1) -> Batches:
        """(features float32, labels) of ``size`` images on the device; epoch e sees the images' view e mod V.

        Args:
            seed: shuffles each epoch differently and leaves out its incomplete last batch; None: all images in order.
        """


@dataclass(frozen=True, kw_only=True, eq=False)
class Stored(Features):
    """Features in memory: ``values`` (V, N, D) or (V, N, T, D)."""

    values: Tensor
    device: torch.device

    def subset(self, rows: np.ndarray) -> Stored:
        return replace(self, values=self.values[:, rows], labels=self.labels[rows])

    def batches(self, size: int, *, seed: int | None = None, epochs: int = 1) -> Batches:
        sampler = Sampler(num_samples=len(self), batch_size=size, train=seed is not None, seed=seed or 0)
        for epoch in range(epochs):
            view = self.values[epoch % self.num_views]
            for step in sampler.steps(epoch):
                yield view[step.index].to(self.device).float(), self.labels[step.index].to(self.device)


@dataclass(frozen=True, kw_only=True, eq=False)
class Computed(Features):
    """Features of one layer that take too much memory: every batch goes through the backbone."""

    reader: Reader
    layer: int
    source: Source
    transform: ImageTransform

    @classmethod
    def of(cls, reader: Reader, source: Source, transform: ImageTransform, layer: int) -> Computed:
        """Those of an entire source."""
        labels = torch.tensor(source.targets)
        return cls(labels=labels, reader=reader, layer=layer, source=source, transform=transform)

    def subset(self, rows: np.ndarray) -> Computed:
        return replace(self, source=self.source.subset(rows), labels=self.labels[rows])

    def batches(self, size: int, *, seed: int | None = None, epochs: int = 1) -> Batches:
        config, device = LoaderConfig(batch_size=size), self.reader.device
        loader = Loader(self.source, self.transform, config, train=seed is not None, seed=seed or 0)
        try:
            for epoch in range(epochs):
                for batch in loader.batches(epoch):
                    yield self.reader(batch["images"], [self.layer])[0].float(), tensor_targets(batch).to(device)
        finally:
            loader.close()


def store(
    reader: Reader,
    source: Source,
    transform: ImageTransform,
    num_views: int,
    layers: Sequence[int],
    batch_size: int,
    label: str = "features",
) -> list[Stored]:
    """The features of all images in each layer, from one pass a view.

    Args:
        label: of the progress.

    Raises:
        UserError: an image that cannot be read.
    """
    loader = Loader(source, transform, LoaderConfig(batch_size=batch_size), train=False)
    values: list[Tensor] = []
    with Progress(label, num_views * len(loader)) as progress:
        for view in range(num_views):
            for batch in loader.batches(view):
                read = reader(batch["images"], layers)
                if not values:
                    values = [torch.empty(num_views, len(source), *x.shape[1:], dtype=reader.dtype) for x in read]
                for each, rows in zip(values, read, strict=True):
                    each[view, batch["index"]] = rows.to("cpu", reader.dtype)
                progress.advance()
    loader.close()
    labels = torch.tensor(source.targets)
    return [Stored(values=each, labels=labels, num_views=num_views, device=reader.device) for each in values]


def gathered(features: Features) -> tuple[Tensor, Tensor]:
    """All views of all images: (V·N, D) and their labels (V·N,), on the device."""
    rows, labels = zip(*features.batches(4096, epochs=features.num_views), strict=True)
    return torch.cat(rows), torch.cat(labels)


def sample(features: Features, count: int = 256) -> Tensor:
    """The vectors (of tokens: their means) of up to ``count`` images from all over the split: (≤ count, D)."""
    index = np.linspace(0, len(features) - 1, min(len(features), count)).astype(np.int64)
    rows = torch.cat([x for x, _ in features.subset(index).batches(64)])
    return rows.mean(dim=1) if rows.ndim == 3 else rows
