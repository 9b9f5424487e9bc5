"""Decode every sample of a source, in several processes, and keep what ``check`` and ``stats`` ask about each."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass

import numpy as np
from PIL import Image

from vitrail import console
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.stored import in_words
from vitrail.data.source import Source
from vitrail.errors import UserError
from vitrail.machine import num_cores

THUMBNAIL = 16  # pixels along each side
_CHUNK = 128
_FEW = 512  # samples for which starting processes takes longer than decoding


@dataclass(frozen=True)
class Inspection:
    """What decoding N samples showed.

    Attributes:
        sizes: int32 (N, 2): height and width, 0 for a bad image.
        digests: uint8 (N, 16): a hash of the stored bytes.
        histogram: int64 (C, 256): pixels of each value, over all good images.
        thumbnails: uint8 (N, T, T), of the greys, for comparing.
        stored: good images by what they hold, such as "4 bands of 16 bits".
        bad, warned: (position, cause).
    """

    sizes: np.ndarray
    digests: np.ndarray
    histogram: np.ndarray
    thumbnails: np.ndarray
    stored: Counter[str]
    bad: list[tuple[int, str]]
    warned: list[tuple[int, str]]


def inspect(source: Source, label: str, *, channels: int | None = None, workers: int | None = None) -> Inspection:
    """Decode all of ``source``.

    Args:
        label: of the progress bar.
        channels: to decode to; default: what the source stores, 3 where it is known only after reading the files.
        workers: processes; default: one a core, and none for a few hundred samples.

    Raises:
        UserError: a worker process died.
    """
    channels = channels or source.channels or 3
    chunks = [range(start, min(start + _CHUNK, len(source))) for start in range(0, len(source), _CHUNK)]
    if workers is None:
        workers = 0 if len(source) <= _FEW else num_cores()
    parts = []
    with console.Progress(label, len(source)) as progress:
        for part in _run(source, channels, chunks, workers):
            parts.append(part)
            progress.advance(len(part.sizes), bad=sum(len(each.bad) for each in parts))
    return Inspection(
        sizes=np.concatenate([part.sizes for part in parts]),
        digests=np.concatenate([part.digests for part in parts]),
        histogram=np.sum([part.histogram for part in parts], axis=0),
        thumbnails=np.concatenate([part.thumbnails for part in parts]),
        stored=sum((part.stored for part in parts), Counter()),
        bad=[each for part in parts for each in part.bad],
        warned=[each for part in parts for each in part.warned],
    )


def thumbnail(image: Image.Image) -> np.ndarray:
    """The greys of a picture, uint8 (T, T), each the mean of its part."""
    size = (THUMBNAIL, THUMBNAIL)
    grey = image.convert("RGB").convert("L") if image.mode not in ("L", "RGB") else image.convert("L")
    return np.asarray(
        grey.resize(size, Image.Resampling.BOX if min(image.size) >= 2 * THUMBNAIL else Image.Resampling.BILINEAR)
    )


def _run(source: Source, channels: int, chunks: list[range], workers: int) -> Iterator[Inspection]:
    if not workers:
        for chunk in chunks:
            yield _inspect(source, channels, chunk)
        return
    try:
        with ProcessPoolExecutor(workers, initializer=_set_work, initargs=(source, channels)) as pool:
            yield from pool.map(_inspect_here, chunks)
    except BrokenProcessPool:
        raise UserError("a process died while decoding, maybe for want of memory; try again with --workers 0") from None


_work: tuple[Source, int]


def _set_work(source: Source, channels: int) -> None:
    global _work
    _work = (source, channels)


def _inspect_here(chunk: range) -> Inspection:
    return _inspect(*_work, chunk)


def _inspect(source: Source, channels: int, chunk: range) -> Inspection:
    sizes = np.zeros((len(chunk), 2), np.int32)
    digests = np.zeros((len(chunk), 16), np.uint8)
    histogram = np.zeros((channels, 256), np.int64)
    thumbnails = np.zeros((len(chunk), THUMBNAIL, THUMBNAIL), np.uint8)
    stored: Counter[str] = Counter()
    bad: list[tuple[int, str]] = []
    warned: list[tuple[int, str]] = []
    for row, index in enumerate(chunk):
        try:
            data = source.read(index)
            content = data if isinstance(data, bytes) else data.tobytes()
            digests[row] = np.frombuffer(hashlib.blake2b(content, digest_size=16).digest(), np.uint8)
            image = decode(data, channels, warn=lambda text, index=index: warned.append((index, text)))  # type: ignore[misc]
        except BadImage as error:
            bad.append((index, str(error)))
            continue
        stored[in_words(data)] += 1
        if isinstance(image, Image.Image):
            sizes[row] = image.size[::-1]
            thumbnails[row] = thumbnail(image)
            histogram += np.reshape(image.histogram(), (channels, 256))
        else:
            sizes[row] = image.shape[1:]
            thumbnails[row] = thumbnail(Image.fromarray(image.numpy()[0]))
            histogram += np.stack([np.bincount(plane.ravel(), minlength=256) for plane in image.numpy()])
    return Inspection(sizes, digests, histogram, thumbnails, stored, bad, warned)
