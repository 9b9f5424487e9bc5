"""Pillow's readers of the formats that are read here, and how an image of theirs is turned upright."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable

from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    GifImagePlugin,
    Image,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from vitrail.data.media.formats import orientation
from vitrail.data.media.limits import Broken

logging.getLogger("PIL").addHandler(logging.NullHandler())  # what it logs about a bad file, it raises too
Warn = Callable[[str], None]
_PLUGINS: dict[str, Callable[..., Image.Image]] = {
    "JPEG": JpegImagePlugin.JpegImageFile,
    "PNG": PngImagePlugin.PngImageFile,
    "GIF": GifImagePlugin.GifImageFile,
    "WEBP": WebPImagePlugin.WebPImageFile,
    "BMP": BmpImagePlugin.BmpImageFile,
    "TIFF": TiffImagePlugin.TiffImageFile,
    "AVIF": AvifImagePlugin.AvifImageFile,
}
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
TURNED = (5, 6, 7, 8)  # orientations whose sides are swapped


def opened(kind: str, data: bytes, page: int = 0) -> Image.Image:
    """The image, not loaded yet; of a TIFF the page.

    Raises:
        Broken: a HEIC photo without the extra, or a damaged one.
    """
    image = _heif(data) if kind == "HEIC" else _PLUGINS[kind](io.BytesIO(data))
    if kind == "TIFF" and page:
        image.seek(page)
    return image


def orientation_of(exif: bytes, warn: Warn) -> int:
    """1 to 8; 1 where there is none, or where it is damaged, which is warned of."""
    try:
        return orientation(exif) if exif else 1
    except Broken:
        warn("has damaged EXIF data, which is ignored")
        return 1


def _heif(data: bytes) -> Image.Image:
    try:
        from pillow_heif import HeifImageFile
    except ImportError:
        raise Broken("is a HEIC photo (HEIF), which needs an extra; run: pip install 'vitrail[heif]'") from None
    try:
        image: Image.Image = HeifImageFile(io.BytesIO(data))
    except (ValueError, SyntaxError, OSError, EOFError, RuntimeError) as error:
        raise Broken(f"is a damaged HEIF file: {(str(error) or type(error).__name__).splitlines()[0]}") from None
    return image
