"""What a case of the corpus of bad input is, and the healthy pictures and folders that the cases spoil."""

from __future__ import annotations

import contextlib
import ctypes
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from PIL import Image

Kind = Literal["image", "folder", "table", "archive"]
Expect = Literal[
    "accept",  # goes through silently
    "warn",  # goes through, and a person is told
    "report",  # goes through, and `data check` tells
    "reject",  # one line that names the file and the cause, exit code 2
]


@dataclass(frozen=True)
class Case:
    """One entry of the corpus.

    Attributes:
        build: makes it in an empty folder; returns the path to give to the toolkit.
        cause: what a rejection or warning must mention.
        golden: the RGB pixels uint8 (H, W, 3) that an accepted image must decode to, within ``tolerance`` levels.
        after_open: something that happens to the data once it is open.
        options: settings of ``SourceConfig`` that belong to the case.
        needs_permissions: only means something to a user without root's powers (see ``without_root_powers``).
    """

    number: int
    name: str
    kind: Kind
    expect: Expect
    build: Callable[[Path], Path]
    cause: str = ""
    golden: Callable[[], np.ndarray] | None = None
    tolerance: int = 0
    after_open: Callable[[Path], None] | None = None
    options: dict[str, Any] = field(default_factory=dict)
    needs_permissions: bool = False

    def __str__(self) -> str:
        return f"{self.number:02d}-{self.name}"


def good_folder(folder: Path, *, splits: tuple[str, ...] = ("train", "val"), num_images: int = 4) -> Path:
    """A healthy image folder: cat and dog, random 16 × 16 pictures, all different."""
    draw = np.random.default_rng(7)
    for split in splits or ("",):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for i in range(num_images):
                pixels = draw.integers(0, 256, (16, 16, 3), np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{i}.png")
    return folder


@contextlib.contextmanager
def without_root_powers() -> Iterator[None]:
    """Permissions hold inside, even for root (Linux: the capabilities that override them are set aside)."""
    if os.geteuid() != 0:
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)  # version 3, this thread
    before = (ctypes.c_uint32 * 6)()  # (effective, permitted, inheritable) × 2
    if libc.capget(header, before):
        raise OSError(ctypes.get_errno(), "capget")
    dropped = (ctypes.c_uint32 * 6)(*before)
    dropped[0] &= ~0b110  # CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH
    if libc.capset(header, dropped):
        raise OSError(ctypes.get_errno(), "capset")
    try:
        yield
    finally:
        libc.capset(header, before)


def blocks() -> np.ndarray:
    """A 32 × 48 picture of six flat 16 × 16 blocks, which JPEG keeps almost exactly; no symmetry maps it on itself."""
    colors = np.array(
        [[(200, 30, 30), (30, 200, 30), (30, 30, 200)], [(220, 220, 40), (40, 40, 40), (240, 240, 240)]], np.uint8
    )
    return colors.repeat(16, axis=0).repeat(16, axis=1)


def jpeg(pixels: np.ndarray | Image.Image, **options: Any) -> bytes:
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    return encode(image, "JPEG", quality=98, **({"subsampling": 0} | options))


def png(pixels: np.ndarray) -> bytes:
    return encode(Image.fromarray(pixels), "PNG")


def photo(seed: int = 0, size: tuple[int, int] = (64, 64)) -> np.ndarray:
    """Smooth random colours."""
    coarse = np.random.default_rng(seed).integers(0, 256, (8, 8, 3), np.uint8)
    return np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC))


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()
