"""DICOM images by pydicom, an extra: rescaled, in the window that is stated, with MONOCHROME1 inverted.

Windows are those of the standard, PS3.3 section C.11.2.1.2 (linear, linear exact, sigmoid).
"""

from __future__ import annotations

import importlib
import io
from collections.abc import Callable
from typing import Any, Protocol, cast

import numpy as np

from vitrail.data.media.limits import Broken
from vitrail.data.media.reading import Reading


class Elements(Protocol):
    """What is used of pydicom's data set, whose other elements are attributes by their keyword."""

    file_meta: object

    def get(self, key: str, default: object = None, /) -> Any:
        """The value of an element; its type is the element's."""

    def __contains__(self, keyword: str, /) -> bool: ...

    def __getattr__(self, keyword: str, /) -> Any: ...


class Decoder(Protocol):
    """What decodes one compression."""

    is_available: bool


class Decoders(Protocol):
    """What is used of ``pydicom.pixels``, which exports nothing to type checkers."""

    def get_decoder(self, syntax: object, /) -> Decoder:
        """Raises NotImplementedError where there can be none."""

    def pixel_array(self, file: Elements, *, index: int, raw: bool) -> np.ndarray:
        """Of a frame, as stored."""

    def apply_color_lut(self, pixels: np.ndarray, file: Elements, /) -> np.ndarray:
        """The colours of a palette."""

    def apply_modality_lut(self, pixels: np.ndarray, file: Elements, /) -> np.ndarray:
        """The values in the units of the file."""

    def apply_voi(self, pixels: np.ndarray, file: Elements, /) -> np.ndarray:
        """By the table of values that are shown."""

    def convert_color_space(self, pixels: np.ndarray, current: str, desired: str, *, per_frame: bool) -> np.ndarray:
        """Such as from YBR_FULL to RGB."""


def dicom_pixels(data: bytes, reading: Reading, check_size: Callable[[tuple[int, int]], None]) -> np.ndarray:
    """The frame as uint8 (H, W, 1), or (H, W, 3) of a colour image.

    Args:
        reading: with a range, that window in the units of the file (Hounsfield units in CT).
        check_size: called with (width, height) before any pixel is decoded.

    Raises:
        Broken: without the extra, no pixels, or no such frame.
    """
    try:
        import pydicom
    except ImportError:
        raise Broken("is a DICOM image, which needs an extra; run: pip install 'vitrail[dicom]'") from None
    decoders = cast("Decoders", importlib.import_module("pydicom.pixels"))
    file = cast("Elements", pydicom.dcmread(io.BytesIO(data)))
    if "PixelData" not in file and "FloatPixelData" not in file and "DoubleFloatPixelData" not in file:
        raise Broken("is a DICOM file without pixels")
    check_size((int(file.Columns), int(file.Rows)))
    frame, count = reading.page or 0, int(getattr(file, "NumberOfFrames", None) or 1)
    if frame >= count:
        raise Broken(f"has {count} frame{'s' * (count != 1)}, so none is number {frame} (they count from 0)")
    _require_decoder(file, decoders)
    pixels = decoders.pixel_array(file, index=frame, raw=True)
    kind = str(file.get("PhotometricInterpretation", ""))
    if kind.startswith("PALETTE"):
        colours = decoders.apply_color_lut(pixels, file)
        return (colours >> 8).astype(np.uint8) if colours.dtype == np.uint16 else np.asarray(colours)
    if pixels.ndim == 3:
        if kind.startswith("YBR_FULL"):
            pixels = decoders.convert_color_space(pixels, kind, "RGB", per_frame=True)
        bits = int(file.BitsStored)
        return (pixels >> (bits - 8)).astype(np.uint8) if bits > 8 else pixels.astype(np.uint8)
    values = np.asarray(decoders.apply_modality_lut(pixels, file), np.float64)
    shares = _window(values, file, reading)
    shown = np.rint(shares.clip(0, 1) * 255).astype(np.uint8)
    return (255 - shown if kind == "MONOCHROME1" else shown)[..., None]


def _require_decoder(file: Elements, decoders: Decoders) -> None:
    """Refuse a compression whose decoder is not there."""
    syntax = getattr(file.file_meta, "TransferSyntaxUID", None)
    if syntax is None or not syntax.is_compressed:
        return
    try:
        known = decoders.get_decoder(syntax).is_available
    except NotImplementedError:
        raise Broken(f"is a DICOM file of {syntax.name}, whose pixels are not read; save it uncompressed") from None
    if not known:
        raise Broken(
            f"is a DICOM image of {syntax.name}, which needs an extra; run: pip install 'vitrail[dicom]' "
            "pylibjpeg-libjpeg"
        )


def _window(values: np.ndarray, file: Elements, reading: Reading) -> np.ndarray:
    """The values from 0 for black to 1 for white."""
    if reading.value_range is not None:
        low, high = reading.value_range
        return np.asarray((values - low) / (high - low))
    if file.get("VOILUTSequence"):
        decoders = cast("Decoders", importlib.import_module("pydicom.pixels"))
        bits = int(file.VOILUTSequence[0].LUTDescriptor[2])
        return np.asarray(decoders.apply_voi(np.rint(values).astype(np.int64), file) / ((1 << bits) - 1))
    centre, width = (_first(file.get(name)) for name in ("WindowCenter", "WindowWidth"))
    if centre is None or width is None:
        return _full_range(values, file)
    kind = str(file.get("VOILUTFunction", None) or "LINEAR").upper()
    if kind == "SIGMOID":
        return np.asarray(1 / (1 + np.exp(-4 * (values - centre) / width)))
    if kind == "LINEAR_EXACT":
        return np.asarray((values - centre) / width + 0.5)
    if width <= 1:
        return np.asarray(values > centre - 0.5, np.float64)
    return np.asarray((values - (centre - 0.5)) / (width - 1) + 0.5)


def _full_range(values: np.ndarray, file: Elements) -> np.ndarray:
    """Of the bits that the file stores; of floating-point pixels, which have none, that of the image."""
    if "PixelData" not in file or file.get("ModalityLUTSequence"):
        low, high = float(values.min()), float(values.max())
    else:
        bits, signed = int(file.BitsStored), bool(file.PixelRepresentation)
        slope, offset = float(file.get("RescaleSlope", 1) or 1), float(file.get("RescaleIntercept", 0) or 0)
        first = -(1 << (bits - 1)) if signed else 0
        ends = first * slope + offset, (first + (1 << bits) - 1) * slope + offset
        low, high = min(ends), max(ends)
    return np.asarray((values - low) / max(high - low, 1e-12))


def _first(value: Any) -> float | None:
    """A number, or the first of several, which a file may offer."""
    if value is None or value == "":
        return None
    return float(value[0] if not isinstance(value, str | int | float) and hasattr(value, "__getitem__") else value)
