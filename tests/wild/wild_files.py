"""Small files and folders as people have them; each test of this folder builds its own with these."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from vitrail.data.source import SourceConfig, Splits, open_source

TINY_RUN = (
    *("--image-size", "32", "--epochs", "1", "--batch-size", "2", "--device", "cpu", "--workers", "0"),
    *("--precision", "fp32", "--no-report"),
    *(f"--set=model.{name}" for name in ("patch_size=16", "depth=1", "dim=16", "heads=2", "mlp_dim=16")),
)
"""Options of a training that takes a moment."""


def picture(number: int = 0, size: tuple[int, int] = (8, 10), bands: int = 3) -> np.ndarray:
    """uint8 (H, W, bands), another for each number."""
    return np.random.default_rng(number).integers(0, 256, (*size, bands), np.uint8)


def png(number: int = 0, size: tuple[int, int] = (8, 10)) -> bytes:
    """A picture as PNG."""
    stream = io.BytesIO()
    Image.fromarray(picture(number, size)).save(stream, "PNG")
    return stream.getvalue()


def draw(folder: Path, *names: str) -> Path:
    """The folder with a picture of its own for each name; a name that ends with a slash is an empty folder."""
    for number, name in enumerate(names):
        file = folder / name
        if name.endswith("/"):
            file.mkdir(parents=True)
            continue
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png(number))
    return folder


def opened(spec: Path | str, **options: Any) -> Splits:
    """The splits, with nothing held out."""
    return open_source(SourceConfig(spec=str(spec), **({"val_fraction": 0} | options)))


def table(splits: Splits) -> dict[str, list[str]]:
    """``{"train": ["1.png ant", …]}`` of data with a class an image."""
    return {
        split: [f"{Path(s.name(i)).name} {s.classes[int(s.targets[i])]}" for i in range(len(s))]  # type: ignore[call-overload]
        for split, s in splits.items()
    }


def tiff(pixels: np.ndarray, *, extra: int | None = None, photometric: int | None = None) -> bytes:
    """An uncompressed TIFF of uint8, uint16 or float32 (H, W, C); without ``extra`` no ExtraSamples are stated."""
    height, width, bands = pixels.shape
    bits = pixels.dtype.itemsize * 8
    tags = {256: (4, width), 257: (4, height), 259: (3, 1), 262: (3, photometric or (2 if bands in (3, 4) else 1))}
    tags |= {277: (3, bands), 278: (4, height), 279: (4, pixels.nbytes), 284: (3, 1)}
    tags[339] = (3, 3 if pixels.dtype.kind == "f" else 1)
    data, depths = pixels.tobytes(), struct.pack(f"<{bands}H", *[bits] * bands)
    at_depths = 8 + len(data)
    tags |= {273: (4, 8), 258: (3, bits)}
    if extra is not None:
        tags[338] = (3, extra)
    entries = b""
    for tag, (kind, value) in sorted(tags.items()):
        if tag in (258, 339) and bands > 2:
            where = at_depths if tag == 258 else at_depths + len(depths)
            entries += struct.pack("<HHII", tag, kind, bands, where)
        elif tag in (258, 339):
            entries += struct.pack("<HHI2H", tag, kind, bands, value, value if bands == 2 else 0)
        else:
            entries += struct.pack("<HHII", tag, kind, 1, value)
    formats = struct.pack(f"<{bands}H", *[tags[339][1]] * bands)
    directory = struct.pack("<H", len(tags)) + entries + b"\0" * 4
    return struct.pack("<2sHI", b"II", 42, at_depths + 2 * len(depths)) + data + depths + formats + directory
