"""DICOM images (pydicom's issues, Kaggle's RSNA): window, rescale, MONOCHROME1, frames, colours, and no extra."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image
from wild_files import opened, picture

from vitrail.data.media.decode import BadImage, TooManyPixels, decode
from vitrail.data.media.reading import Reading

STORED = np.arange(0, 4096, 64, dtype=np.uint16).reshape(8, 8)
HOUNSFIELD = STORED.astype(np.float64) - 1024


def dicom(
    pixels: np.ndarray, photometric: str = "MONOCHROME2", bits: int = 12, frames: int = 1, **values: object
) -> bytes:
    pytest.importorskip("pydicom")
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian

    file = Dataset()
    file.file_meta = FileMetaDataset()
    file.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    file.SOPClassUID, file.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    shape = pixels.shape[1:] if frames > 1 else pixels.shape
    file.Rows, file.Columns = shape[:2]
    file.SamplesPerPixel, file.PhotometricInterpretation = (3 if len(shape) == 3 else 1), photometric
    file.BitsAllocated, file.BitsStored = pixels.dtype.itemsize * 8, bits
    file.HighBit, file.PixelRepresentation = bits - 1, 0
    if len(shape) == 3:
        file.PlanarConfiguration = 0
    if frames > 1:
        file.NumberOfFrames = frames
    file.PixelData = pixels.tobytes()
    for name, value in values.items():
        setattr(file, name, value)
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def shown(data: bytes, reading: Reading = Reading()) -> np.ndarray:  # noqa: B008  frozen
    return np.asarray(decode(data, 1, reading=reading)).astype(np.float64)


def test_bits_rescale_and_window() -> None:
    assert np.abs(shown(dicom(STORED)) - STORED / 4095 * 255).max() <= 0.5
    windowed = dicom(STORED, RescaleSlope=1, RescaleIntercept=-1024, WindowCenter=[40, 50], WindowWidth=[400, 1500])
    linear = ((HOUNSFIELD - 39.5) / 399 + 0.5).clip(0, 1) * 255  # PS3.3 C.11.2.1.2.1
    assert np.abs(shown(windowed) - linear).max() <= 0.5
    stated = ((HOUNSFIELD + 1000) / 1400).clip(0, 1) * 255
    assert np.abs(shown(windowed, Reading(value_range=(-1000, 400))) - stated).max() <= 0.5
    exact = dicom(STORED, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="LINEAR_EXACT")
    assert np.abs(shown(exact) - ((STORED - 2000.0) / 1000 + 0.5).clip(0, 1) * 255).max() <= 0.5
    sigmoid = dicom(STORED, WindowCenter=2000, WindowWidth=1000, VOILUTFunction="SIGMOID")
    assert np.abs(shown(sigmoid) - 255 / (1 + np.exp(-4 * (STORED - 2000.0) / 1000))).max() <= 0.5


def test_monochrome1_is_inverted() -> None:
    np.testing.assert_array_equal(shown(dicom(STORED, "MONOCHROME1")), 255 - shown(dicom(STORED)))


def test_colours_and_frames() -> None:
    colours = picture(0, (6, 8))
    np.testing.assert_array_equal(np.asarray(decode(dicom(colours, "RGB", 8))), colours)
    frames = dicom(np.stack([STORED, STORED[::-1]]), frames=2)
    np.testing.assert_array_equal(shown(frames, Reading(page=1)), shown(frames)[::-1])
    with pytest.raises(BadImage, match="has 2 frames, so none is number 2"):
        decode(frames, 1, reading=Reading(page=2))


def test_size_is_checked_before_pixels() -> None:
    with pytest.raises(TooManyPixels):
        decode(dicom(STORED), max_pixels=10)
    with pytest.raises(BadImage):
        decode(dicom(STORED)[:400])


def test_in_a_folder_and_without_the_extra(tmp_path: Path, monkeypatch) -> None:
    for label in ("ill", "well"):
        (tmp_path / "p" / label).mkdir(parents=True)
        (tmp_path / "p" / label / "1.dcm").write_bytes(dicom(STORED))
    source = opened(tmp_path / "p").split("train")
    assert decode(source.read(0), 1).size == (8, 8)
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(BadImage, match=r"needs an extra; run: pip install 'vitrail\[dicom\]'"):
        decode(source.read(0), 1)


def compressed(encoded: bytes, syntax: str, like: np.ndarray, photometric: str, bits: int) -> bytes:
    """The file of :func:`dicom` with its pixels in another transfer syntax."""
    pydicom = pytest.importorskip("pydicom")
    from pydicom.encaps import encapsulate

    file = pydicom.dcmread(io.BytesIO(dicom(like, photometric, bits)))
    file.file_meta.TransferSyntaxUID = getattr(pydicom.uid, syntax)
    file.PixelData = encapsulate([encoded])
    file["PixelData"].is_undefined_length = True
    stream = io.BytesIO()
    file.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("syntax", "codec", "options", "photometric"),
    [
        ("JPEG2000Lossless", "jpeg2k", {"codecformat": "j2k", "reversible": True, "level": 0}, "MONOCHROME2"),
        ("JPEG2000Lossless", "jpeg2k", {"codecformat": "j2k", "reversible": True, "level": 0}, "RGB"),
        ("JPEGLSLossless", "jpegls", {}, "MONOCHROME2"),
        ("JPEGLosslessSV1", "ljpeg", {"bitspersample": 12}, "MONOCHROME2"),
    ],
)
def test_compressed_without_loss(syntax: str, codec: str, options: dict[str, object], photometric: str) -> None:
    pytest.importorskip("openjpeg" if codec == "jpeg2k" else "libjpeg")
    encode = getattr(pytest.importorskip("imagecodecs"), f"{codec}_encode")
    rows, columns = np.mgrid[0:24, 0:32]
    if photometric == "RGB":
        colours = np.stack([rows * 7, columns * 5, 255 - rows * 3], axis=-1).astype(np.uint8)
        data = compressed(encode(colours, mct=False, **options), syntax, colours, "RGB", 8)
        np.testing.assert_array_equal(np.asarray(decode(data)), colours)
        return
    values = (rows * 100 + columns * 50).astype(np.uint16)
    bits = 12 if codec == "ljpeg" else 16
    data = compressed(encode(values, **options), syntax, values, photometric, bits)
    assert np.abs(shown(data) - values / ((1 << bits) - 1) * 255).max() <= 0.5


def test_colours_of_jpegs_and_of_other_spaces() -> None:
    pixels = pytest.importorskip("pydicom.pixels")
    rows, columns = np.mgrid[0:24, 0:32]
    colours = np.stack([rows * 7, columns * 5, 255 - rows * 3], axis=-1).astype(np.uint8)
    ybr = pixels.convert_color_space(colours, "RGB", "YBR_FULL")
    assert np.abs(np.asarray(decode(dicom(ybr, "YBR_FULL", 8))).astype(int) - colours).max() <= 2
    stream = io.BytesIO()
    Image.fromarray(colours).save(stream, "JPEG", quality=98, subsampling=0)
    data = compressed(stream.getvalue(), "JPEGBaseline8Bit", ybr, "YBR_FULL", 8)
    assert np.abs(np.asarray(decode(data)).astype(int) - colours).max() <= 8


def test_without_the_decoder(monkeypatch) -> None:
    pixels = pytest.importorskip("pydicom.pixels")
    data = compressed(b"\xff\x4f\xff\x51", "JPEG2000Lossless", STORED, "MONOCHROME2", 12)
    monkeypatch.setattr(pixels, "get_decoder", lambda _: SimpleNamespace(is_available=False))
    with pytest.raises(BadImage, match=r"JPEG 2000 .*, which needs an extra; run: pip install 'vitrail\[dicom\]'"):
        decode(data)
    film = compressed(b"\0\0\0\1", "MPEG2MPML", STORED, "MONOCHROME2", 12)
    monkeypatch.undo()
    with pytest.raises(BadImage, match=r"is a DICOM file of MPEG2 .*, whose pixels are not read"):
        decode(film)
