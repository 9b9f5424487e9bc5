"""DICOM images (pydicom's issues, Kaggle's RSNA): window, rescale, MONOCHROME1, frames, colours, and no extra."""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
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
