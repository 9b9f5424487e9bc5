"""Photos of a telephone in a format that needs an extra do not stop a folder: they are skipped and counted."""

from __future__ import annotations

import sys
import zipfile

import pytest
from PIL import Image

from vitrail.cli import main
from vitrail.data.media import formats
from vitrail.data.source import SourceConfig, open_source


@pytest.fixture(autouse=True)
def _without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    monkeypatch.setattr(formats, "find_spec", lambda name: None)


@pytest.fixture
def phone(tmp_path, own_cache):
    """As a telephone leaves it: pictures of both kinds, and a film."""
    folder = tmp_path / "phone"
    for name in ("ant/IMG_1.JPG", "ant/IMG_2.HEIC", "bee/IMG_3.jpg", "bee/IMG_4.heif", "bee/IMG_5.mov"):
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() == ".jpg":
            Image.new("RGB", (32, 32)).save(file, "JPEG")
        else:
            file.write_bytes(b"\0\0\0\x18ftypheic")
    return folder


SAID = "skipped files not named as images (1), HEIC images, which need an extra: pip install 'vitrail[heif]' (2)"


def test_a_folder_opens_without_them(phone, capsys):
    for _ in range(2):  # the second time from the index
        splits = open_source(SourceConfig(spec=str(phone), val_fraction=0))
        assert sorted(splits.split("train").name(i)[-9:] for i in range(2)) == ["IMG_1.JPG", "IMG_3.jpg"]
        assert SAID in capsys.readouterr().err


def test_a_zip_archive_too(phone, tmp_path, capsys):
    with zipfile.ZipFile(tmp_path / "phone.zip", "w") as archive:
        for file in sorted(phone.rglob("*.*")):
            archive.write(file, file.relative_to(phone))
    splits = open_source(SourceConfig(spec=str(tmp_path / "phone.zip"), val_fraction=0))
    assert len(splits.split("train")) == 2
    assert SAID in capsys.readouterr().err


def test_the_data_are_in_order_and_one_named_alone_is_an_error(phone, tiny_predictor, tmp_path, capsys):
    assert main(["data", "check", str(phone)]) == 0  # also where the share for validation is empty
    assert main(["data", "stats", str(phone)]) == 0
    capsys.readouterr()
    weights = tmp_path / "weights.safetensors"
    tiny_predictor().save(weights)
    assert main(["predict", str(weights), str(phone), "--annotate", str(tmp_path / "drawn")]) == 0
    out, err = capsys.readouterr()
    assert out.count("IMG_") == 2
    assert SAID in err
    assert f"written: annotated images in {tmp_path / 'drawn'}" in err
    assert err.count(SAID) == 1
    assert f"next: vitrail explain {weights} {phone}" in err
    assert main(["predict", str(weights), str(phone / "ant" / "IMG_2.HEIC")]) == 2
    assert "HEIF" in capsys.readouterr().err
