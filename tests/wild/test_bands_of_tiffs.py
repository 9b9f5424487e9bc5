"""TIFFs of four bands and more (PlanetaryComputer#82, torchgeo#517).

Near-infrared was taken for transparency where the file has no ExtraSamples, and became 255 everywhere where they say
"unspecified". Siblings looked at: the same with 16 bits, 2 to 16 bands, arrays of four channels, transparency that the
file states, models of 1, 3 and 4 channels, check, stats, training and prediction, tiles, and pictures in reports.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from wild_files import TINY_RUN, opened, picture, tiff

from vitrail.cli import main
from vitrail.data import Preprocess, PreprocessConfig
from vitrail.data.inspection.check import check
from vitrail.data.media.decode import BadImage, decode

BANDS = picture(3, (6, 9), 4)


@pytest.mark.parametrize("extra", [None, 0])
def test_bands_are_bands(extra: int | None) -> None:
    data = tiff(BANDS, extra=extra)
    np.testing.assert_array_equal(np.asarray(decode(data, 4)), BANDS)
    for channels in (1, 3, 5):
        with pytest.raises(BadImage, match="has 4 bands, of which nothing says that the last is transparency"):
            decode(data, channels)


def test_transparency_where_the_file_says_so() -> None:
    data = tiff(BANDS, extra=2)
    assert decode(data, 4).mode == "RGBA"
    white = BANDS[..., 3:] / 255 * BANDS[..., :3] + 255 - BANDS[..., 3:]
    assert np.abs(np.asarray(decode(data, 3)) - white).max() < 2


def test_a_band_is_resized_without_regard_to_the_last() -> None:
    dark = BANDS.copy()
    dark[..., 3] = 0
    preprocess = Preprocess(PreprocessConfig(size=(12, 18), channels=4))
    resized = preprocess.pixels(decode(tiff(dark), 4))
    full = preprocess.pixels(decode(tiff(BANDS), 4))
    assert (resized[:3] == full[:3]).all()
    assert (preprocess.pixels(decode(dark, 4)) == resized).all()  # of an array too


@pytest.mark.parametrize("bands", [2, 5, 16])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_more_bands_by_the_extra(bands: int, dtype) -> None:
    pytest.importorskip("tifffile")
    pixels = (picture(1, (5, 6), bands).astype(dtype) << (8 if dtype is np.uint16 else 0)) + dtype(3)
    wanted = pixels >> 8 if dtype is np.uint16 else pixels
    found = decode(tiff(pixels), bands)
    np.testing.assert_array_equal(found.numpy(), wanted.transpose(2, 0, 1))
    with pytest.raises(BadImage, match=f"has {bands} channels, where 3 are wanted; choose --channels {bands}"):
        decode(tiff(pixels), 3)


def test_without_the_extra_it_is_named(monkeypatch) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "tifffile", None)
    np.testing.assert_array_equal(np.asarray(decode(tiff(BANDS), 4)), BANDS)  # not needed for these
    with pytest.raises(BadImage, match=r"needs an extra; run: pip install 'vitrail\[tiff\]'"):
        decode(tiff(picture(1, (5, 6), 5)), 5)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for label in ("field", "forest"):
        for number in range(3):
            file = tmp_path / "p" / label / f"{number}.tif"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(tiff(picture(number, (20, 24), 4)))
    return tmp_path / "p"


def test_check_tells_and_training_refuses_another_count(folder: Path, capsys) -> None:
    assert "has 4 bands" in check(opened(folder), workers=0).bad[0].text
    assert check(opened(folder), workers=0, channels=4).ok
    assert main(["train", str(folder), *TINY_RUN, "--out", str(folder.parent / "no")]) == 2
    assert "choose --channels 4" in capsys.readouterr().err


def test_trained_and_used_with_four(folder: Path, capsys) -> None:
    assert main(["data", "stats", str(folder), "--channels", "4", "--json"]) == 0
    stats = folder.parent / "stats.json"
    stats.write_text(capsys.readouterr().out)
    run = str(folder.parent / "run")
    more = ("--channels", "4", "--normalize", str(stats))
    assert main(["train", str(folder), *TINY_RUN, *more, "--out", run]) == 0
    assert main(["predict", run, str(folder), "--annotate", str(folder.parent / "drawn")]) == 0
    from vitrail import load

    assert len(load(run, device="cpu").preprocess.config.mean) == 4


def test_arrays_of_four_channels_are_said(tmp_path: Path, capsys) -> None:
    images = np.stack([picture(i, (20, 24), 4) for i in range(4)])
    np.savez(tmp_path / "d.npz", images=images, labels=np.arange(4) % 2)
    assert main(["train", str(tmp_path / "d.npz"), *TINY_RUN, "--out", str(tmp_path / "run")]) == 0
    assert (
        "the last one is taken for transparency; where it is none, train with --channels 4" in capsys.readouterr().err
    )


def test_their_size_is_read_from_the_header(tmp_path: Path) -> None:
    from vitrail.data.media.read import read_size

    (tmp_path / "a.tif").write_bytes(tiff(picture(1, (5, 6), 7)))
    assert read_size(tmp_path / "a.tif") == (5, 6)


@pytest.mark.parametrize("compression", ["lzw", "zlib", "zstd", "lzma", "packbits", "jpegxl", "jpeg2000", "lerc"])
@pytest.mark.parametrize(("bands", "kind"), [(1, "u1"), (1, "u2"), (3, "u1"), (4, "u1"), (6, "u1"), (6, "u2")])
def test_compressed_files_are_those_that_are_not(compression: str, bands: int, kind: str) -> None:
    tifffile, _ = pytest.importorskip("tifffile"), pytest.importorskip("imagecodecs")
    draw = np.random.default_rng(0)
    pixels = draw.integers(0, np.iinfo(kind).max, (16, 24, bands), kind)
    options = {"photometric": "rgb" if bands in (3, 4) else "minisblack", "planarconfig": "contig"}
    options |= {"extrasamples": ("unassalpha",)} if bands == 4 else {}
    written = []
    for how in (None, compression):
        stream = io.BytesIO()
        tifffile.imwrite(stream, pixels if bands > 1 else pixels[..., 0], compression=how, **options)
        written.append(np.asarray(decode(stream.getvalue(), bands)))
    np.testing.assert_array_equal(*written)


def test_a_missing_codec_is_named(monkeypatch) -> None:
    tifffile, _ = pytest.importorskip("tifffile"), pytest.importorskip("imagecodecs")
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.zeros((16, 16, 3), np.uint8), compression="jpegxl", photometric="rgb")
    monkeypatch.setitem(sys.modules, "imagecodecs", None)
    monkeypatch.setattr(tifffile.TIFF, "DECOMPRESSORS", {})
    with pytest.raises(BadImage, match=r"an extra is needed \(.*\); run: pip install 'vitrail\[tiff\]'"):
        decode(stream.getvalue())


@pytest.mark.parametrize(("photometric", "bands"), [("separated", 4), ("cielab", 3), ("ycbcr", 3)])
@pytest.mark.parametrize("channels", [1, 3])
def test_other_colours_are_converted(photometric: str, bands: int, channels: int) -> None:
    tifffile = pytest.importorskip("tifffile")
    stream = io.BytesIO()
    tifffile.imwrite(stream, np.full((8, 9, bands), 128, np.uint8), photometric=photometric)
    found = np.asarray(decode(stream.getvalue(), channels))
    assert found.shape == ((8, 9) if channels == 1 else (8, 9, 3))
