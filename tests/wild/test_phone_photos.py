"""HEIC and AVIF as telephones write them ("is no image … repair or remove it").

AVIF is read by Pillow, HEIC by an extra that the message names; one bad file does not stop ``predict`` on a folder.
Siblings looked at: folders, zips and single files, with and without the extra, turned pictures, ``--on-bad``, globs.
"""

from __future__ import annotations

import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from wild_files import draw, opened, picture

from vitrail.cli import main
from vitrail.data.media import formats
from vitrail.data.media.decode import BadImage, decode

HEIC = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"


def avif(orientation: int = 1) -> bytes:
    stream, exif = io.BytesIO(), Image.Exif()
    exif[274] = orientation
    Image.fromarray(picture(0, (32, 48))).save(stream, "AVIF", exif=exif)
    return stream.getvalue()


def test_avif_is_read() -> None:
    assert decode(avif()).size == (48, 32)
    assert decode(avif(6)).size == (32, 48)
    with pytest.raises(BadImage, match="more than the limit"):
        decode(avif(), max_pixels=100)
    with pytest.raises(BadImage):
        decode(avif()[:200])


def test_avif_in_a_folder(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "ant/1.png", "bee/2.png")
    (folder / "ant" / "3.avif").write_bytes(avif())
    assert len(opened(folder).split("train")) == 3


def test_heic_without_the_extra(tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(formats, "find_spec", lambda name: None)
    with pytest.raises(BadImage, match=r"needs an extra; run: pip install 'vitrail\[heif\]'"):
        decode(HEIC)
    folder = draw(tmp_path / "p", "ant/1.png", "bee/2.png")
    (folder / "ant" / "3.HEIC").write_bytes(HEIC)
    assert len(opened(folder).split("train")) == 2
    assert "skipped HEIC images, which need an extra: pip install 'vitrail[heif]' (1)" in capsys.readouterr().err


def test_heic_with_the_extra(tmp_path: Path) -> None:
    heif = pytest.importorskip("pillow_heif")
    stream = io.BytesIO()
    heif.from_pillow(Image.fromarray(np.full((48, 64, 3), 200, np.uint8))).save(stream)
    image = decode(stream.getvalue())
    assert image.size == (64, 48)
    assert abs(int(image.getpixel((10, 10))[0]) - 200) < 8
    folder = draw(tmp_path / "p", "ant/1.png", "bee/2.png")
    (folder / "ant" / "3.HEIC").write_bytes(stream.getvalue())
    assert len(opened(folder).split("train")) == 3
    with pytest.raises(BadImage, match="HEIF"):
        decode(HEIC)


def test_one_bad_file_does_not_stop_a_folder(tmp_path: Path, tiny_predictor, capsys) -> None:
    tiny_predictor().save(weights := tmp_path / "w.safetensors")
    folder = draw(tmp_path / "p", "1.png", "2.png", "3.png")
    (folder / "2.png").write_bytes(b"no image")
    for given in (folder, f"{folder}/*.png"):
        assert main(["predict", str(weights), str(given)]) == 0
        out, err = capsys.readouterr()
        assert out.count(".png") == 2
        assert "skipped 1 of 3 pictures" in err
    assert main(["predict", str(weights), str(folder), "--on-bad", "error"]) == 2
    assert main(["predict", str(weights), str(folder / "1.png"), str(folder / "2.png")]) == 2
