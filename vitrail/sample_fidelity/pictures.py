"""Collections of pictures: from a folder, a split or tensors to what an extractor makes of each."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from vitrail.batching import READERS, ahead
from vitrail.console import Progress, note
from vitrail.data import keyed_random
from vitrail.data.media.image_like import ImageLike, Sample, name_of, open_image
from vitrail.data.source import Source, SourceConfig, open_source
from vitrail.data.transforms.preprocess import Picture, Preprocess, size_of
from vitrail.errors import UserError, did_you_mean
from vitrail.ops.grid import Pair
from vitrail.results import size_text
from vitrail.sample_fidelity.extractor import Extractor


@dataclass(frozen=True, repr=False)
class Pictures:
    """Pictures that are read when they are needed.

    Attributes:
        labels: indices of ``classes``, int64 (N,); None where there are no classes.
        name: of the collection, in messages.
    """

    images: Sequence[ImageLike]
    labels: np.ndarray | None = None
    classes: tuple[str, ...] = ()
    name: str = "the pictures given"

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return f"<{len(self):,} pictures of {self.name}, {len(self.classes)} classes>"

    def drawn(self, count: int, key: int) -> Pictures:
        """So many of them, which the key decides, in their order."""
        if count >= len(self):
            return self
        rows = chosen_rows(len(self), count, key)
        labels = None if self.labels is None else self.labels[rows]
        return replace(self, images=[self.images[row] for row in rows], labels=labels)


def chosen_rows(num: int, count: int, key: int) -> np.ndarray:
    """``count`` of the rows 0 … num − 1, in their order."""
    return np.sort(keyed_random.permutation(num, key)[:count])


Collection: TypeAlias = str | Path | Source | Pictures | Tensor | Sequence[ImageLike]
"""A folder or the name of a data set, a split, pictures with labels, uint8 (N, C, H, W), or images one by one."""


def gather(data: Collection, splits: Sequence[str] = ()) -> Pictures:
    """The pictures of a collection.

    Args:
        splits: of data with splits, the first of these that it has; (): all.

    Raises:
        UserError: nothing is there, or none of these splits.
    """
    if isinstance(data, Pictures):
        return data
    if isinstance(data, Source):
        return _of_sources([data], "the split given")
    if isinstance(data, Tensor):
        if data.ndim != 4 or data.dtype != torch.uint8:
            raise UserError(
                f"a tensor {tuple(data.shape)} of {str(data.dtype).removeprefix('torch.')} holds no pictures; give "
                "uint8 (N, C, H, W)"
            )
        return Pictures(list(data))
    if not isinstance(data, str | Path):
        return Pictures(list(data))
    found = dict(open_source(SourceConfig(spec=str(data), labelled="auto", val_fraction=0)).items())
    if not splits:
        return _of_sources(list(found.values()), str(data))
    chosen = next((split for split in splits if split in found), None)
    if chosen is None:
        raise UserError(f"{str(data)!r} has no split {splits[0]!r}; {did_you_mean(splits[0], found)}")
    if len(found) > 1:
        note(f"of {str(data)!r} the split {chosen}: {len(found[chosen]):,} pictures")
    return _of_sources([found[chosen]], str(data))


def _of_sources(sources: Sequence[Source], name: str) -> Pictures:
    images = [
        Sample(source.name(index), partial(source.read, index)) for source in sources for index in range(len(source))
    ]
    if not all(source.target_kind.exclusive for source in sources):
        return Pictures(images, name=name)
    labels = np.concatenate([np.asarray(source.targets, np.int64) for source in sources])
    return Pictures(images, labels, sources[0].classes, name)


@dataclass(frozen=True)
class Framing:
    """How pictures of any size come to the size of the samples, before any extractor sees them.

    Args:
        preprocess: None: they must have this (height, width).
    """

    size: Pair
    channels: int
    preprocess: Preprocess | None = None

    def read(self, image: ImageLike) -> Picture:
        """The picture at the size.

        Raises:
            UserError: it cannot be read, or has another size and may not.
        """
        picture = open_image(image, self.channels)
        if self.preprocess is not None:
            return picture if size_of(picture) == self.size else self.preprocess.fit(picture)
        if size_of(picture) != self.size:
            sizes = f"{size_text(size_of(picture))} pixels and the first sample {size_text(self.size)}"
            raise UserError(f"{name_of(image)} has {sizes}; give samples of one size")
        return picture


def extract(
    pictures: Pictures, framing: Framing, extractors: Sequence[Extractor], batch_size: int, label: str
) -> list[Tensor]:
    """The vectors of all pictures by each extractor, (N, D) each, from one pass.

    Args:
        label: of the progress.

    Raises:
        UserError: a picture that cannot be read, or features that are not finite.
    """

    def prepared(image: ImageLike) -> list[Tensor]:
        picture = framing.read(image)
        return [extractor.fit(picture) for extractor in extractors]

    found: list[list[Tensor]] = [[] for _ in extractors]
    with ThreadPoolExecutor(READERS) as pool, Progress(label, len(pictures)) as progress:
        for batch in ahead(pool, prepared, iter(pictures.images), batch_size):
            for extractor, vectors, pixels in zip(extractors, found, zip(*batch, strict=True), strict=True):
                vectors.append(extractor(torch.stack(pixels)))
            progress.advance(len(batch))
    return [torch.cat(vectors) for vectors in found]
