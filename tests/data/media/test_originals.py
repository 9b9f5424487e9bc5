"""Pictures that are read as finely as they are stored, whichever way up and however large they claim to be."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Callable

import numpy as np
import pytest
import torch
from PIL import Image

from vitrail.data.media.decode import decode
from vitrail.data.media.originals import open_original
from vitrail.data.media.png16 import encoded
from vitrail.errors import UserError

LEVELS = np.random.default_rng(0).integers(0, 65536, (6, 4, 3)).astype(np.uint16)
ORIENTATION = 274


def _png(levels: np.ndarray, orientation: int) -> bytes:
    """A PNG of 16 bits with an EXIF block, as cameras write none and programs do."""
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    plain, body = encoded(levels), b"eXIf" + exif.tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body))
    return plain[:33] + chunk + plain[33:]


def _tiff(levels: np.ndarray, orientation: int) -> bytes:
    tifffile = pytest.importorskip("tifffile")
    buffer = io.BytesIO()
    tags = [(ORIENTATION, 3, 1, orientation, True)]
    tifffile.imwrite(buffer, levels, photometric="rgb" if levels.ndim == 3 else "minisblack", extratags=tags)
    return buffer.getvalue()


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("write", [_png, _tiff])
@pytest.mark.parametrize("levels", [LEVELS, LEVELS[..., :1]], ids=["colours", "grey"])
def test_sixteen_bits_are_upright_as_eight_are(
    write: Callable[[np.ndarray, int], bytes], levels: np.ndarray, orientation: int
) -> None:
    data = write(levels if write is _png else levels.squeeze(), orientation)
    shown = np.array(decode(data, 3, warn=lambda _: None)).transpose(2, 0, 1).astype(np.float32)
    original = open_original(data, 3)
    assert original.form.bits == 16
    torch.testing.assert_close(original.pixels, torch.from_numpy(shown), atol=1, rtol=0)


def test_sixteen_bits_that_need_too_much_memory_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    data = encoded(np.zeros((200, 200, 3), np.uint16))
    monkeypatch.setenv("VITRAIL_MAX_IMAGE_MEMORY", "900000")
    with pytest.raises(UserError, match="VITRAIL_MAX_IMAGE_MEMORY"):
        open_original(data, 3)
