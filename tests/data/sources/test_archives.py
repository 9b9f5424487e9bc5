"""Shards and zipped folders; what is refused is in tests/bad_input."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.media.decode import BadImage, decode
from vitrail.data.source import SourceConfig, Splits, open_source
from vitrail.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")


def png(value: int) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", (4, 3), (value, 0, 0)).save(stream, "PNG")
    return stream.getvalue()


def write_tar(path: Path, files: dict[str, bytes]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return path


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def opened(spec: Path | str, **options: object) -> Splits:
    return open_source(SourceConfig(spec=str(spec), **({"val_fraction": 0} | options)))  # type: ignore[arg-type]


def reds(splits: Splits, split: str = "train") -> list[int]:
    source = dict(splits.items())[split]
    return [decode(source.read(i)).getpixel((0, 0))[0] for i in range(len(source))]


def samples(start: int, count: int) -> dict[str, bytes]:
    files = {}
    for i in range(start, start + count):
        files[f"part/{i:04d}.png"] = png(i)
        files[f"part/{i:04d}.cls"] = str(i % 3).encode()
    return files


def test_shards_are_read_at_random(tmp_path: Path) -> None:
    for k in range(3):
        write_tar(tmp_path / f"s-{k:03d}.tar", samples(10 * k, 4))
    for spec in (tmp_path, tmp_path / "s-{000..002}.tar", tmp_path / "s-*.tar"):
        splits = opened(spec)
        assert reds(splits) == [0, 1, 2, 3, 10, 11, 12, 13, 20, 21, 22, 23]
        assert splits.train.targets.tolist() == [0, 1, 2, 0, 1, 2, 0, 1, 2, 0, 1, 2]
        assert splits.train.name(5) == f"{tmp_path}/s-001.tar/part/0011.png"
    assert reds(opened(tmp_path / "s-{001..001}.tar")) == [10, 11, 12, 13]
    with pytest.raises(UserError, match=r"no shard '.*s-003\.tar'"):
        opened(tmp_path / "s-{002..003}.tar")


def test_a_sample_is_what_shares_the_name_up_to_the_first_dot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = {
        "a.b/x.png": png(3),
        "a.b/x.cls": b"1",
        "z.seg.png": png(1),
        "z.png": png(2),
        "z.cls": b"0",
        "only.cls": b"5",
    }
    splits = opened(write_tar(tmp_path / "s.tar", files))
    assert (reds(splits), splits.train.targets.tolist()) == ([3, 2], [1, 0])
    assert "skipped 2 files that are no images or labels" in capsys.readouterr().err


def test_splits_by_name_and_by_folder(tmp_path: Path) -> None:
    for name in ("imagenet1k-train-000", "imagenet1k-validation-000"):
        write_tar(tmp_path / "names" / f"{name}.tar", samples(0, 3))
    for name in ("train/000", "train/001", "test/000"):
        write_tar(tmp_path / "folders" / f"{name}.tar", samples(0, 3))
    assert [(n, len(s)) for n, s in opened(tmp_path / "names").items()] == [("train", 3), ("val", 3)]
    assert [(n, len(s)) for n, s in opened(tmp_path / "folders").items()] == [("train", 6), ("test", 3)]


def test_labels_in_json_and_text(tmp_path: Path) -> None:
    records = [{"label": "cat", "size": 3}, {"label": "dog", "size": 1}]
    files = {}
    for i, record in enumerate(records):
        files |= {
            f"{i}.jpg.png": b"",
            f"{i}.png": png(i),
            f"{i}.json": json.dumps(record).encode(),
            f"{i}.txt": b"a caption",
        }
    files = {name: content for name, content in files.items() if not name.endswith(".jpg.png")}
    write_tar(tmp_path / "s.tar", files)
    assert opened(tmp_path / "s.tar").classes == ("cat", "dog")
    sizes = opened(tmp_path / "s.tar", label_columns=("size",), kind="number").train
    assert sizes.targets.tolist() == [[3.0], [1.0]]
    write_tar(tmp_path / "t.tar", {"0.png": png(0), "0.txt": b"cat\n", "1.png": png(1), "1.txt": b"dog"})
    assert opened(tmp_path / "t.tar").train.targets.tolist() == [0, 1]
    write_tar(
        tmp_path / "m.tar", {"0.png": png(0), "0.json": b'{"labels": ["a", "b"]}', "1.png": png(1), "1.json": b'["b"]'}
    )
    assert opened(tmp_path / "m.tar").train.targets.tolist() == [[1, 1], [0, 1]]


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"0.png": b"x"}, "has no label"),
        ({"0.png": b"x", "0.cls": b"seven"}, r"damaged label \(\.cls\)"),
        ({"0.png": b"x", "0.json": b"{"}, r"damaged label \(\.json\)"),
        ({"0.png": b"x", "0.json": b"{}"}, "none of the fields label"),
        ({"0.png": b"x", "0.jpg": b"x", "0.cls": b"0"}, "has 2 images"),
        ({"0.png": b"x", "0.cls": b"0" * 70_000}, "a label is short"),
        ({"0.png": b"x", "0.pyd": b"x"}, "could run code"),
        ({"0.txt": b"x"}, "holds no images"),
    ],
)
def test_samples_that_are_refused(files: dict[str, bytes], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        opened(write_tar(tmp_path / "s.tar", files))


def test_unlabelled_shards(tmp_path: Path) -> None:
    assert reds(opened(write_tar(tmp_path / "s.tar", {"7.png": png(7)}), labelled=False)) == [7]


def test_a_cut_or_packed_shard(tmp_path: Path) -> None:
    whole = write_tar(tmp_path / "s.tar", samples(0, 4)).read_bytes()
    (tmp_path / "s.tar").write_bytes(whole[:2000])
    with pytest.raises(UserError, match=r"s\.tar"):
        opened(tmp_path / "s.tar")
    with tarfile.open(tmp_path / "z.tar", "w:gz") as archive:
        archive.add(tmp_path / "s.tar", "0.png")
    with pytest.raises(UserError, match=r"z\.tar cannot be read as an archive"):
        opened(tmp_path / "z.tar")


def test_a_shard_that_shrinks_after_opening(tmp_path: Path) -> None:
    source = opened(write_tar(tmp_path / "s.tar", samples(0, 4))).train
    with open(tmp_path / "s.tar", "r+b") as file:
        file.truncate(1000)
    with pytest.raises(BadImage, match="ends early"):
        source.read(3)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_zipped_image_folder(method: int, tmp_path: Path) -> None:
    names = [
        "p/train/b/1.png",
        "p/train/a/2.png",
        "p/val/a/3.png",
        "p/train/a/.x.png",
        "__MACOSX/p/1.png",
        "p/notes.txt",
    ]
    path = write_zip(tmp_path / "p.zip", {name.removeprefix("p/"): png(i) for i, name in enumerate(names)}, method)
    splits = opened(path)
    assert splits.classes == ("a", "b")
    assert (reds(splits), reds(splits, "val")) == ([1, 0], [2])
    assert splits.train.targets.tolist() == [0, 1]
    assert splits.train.name(0) == f"{path}/train/a/2.png"


def test_packed_bytes_are_never_more_than_announced(tmp_path: Path) -> None:
    path = write_zip(tmp_path / "p.zip", {"a/1.png": png(1), "b/2.png": bytes(100_000)})
    data = bytearray(path.read_bytes())
    entry = data.rindex(b"PK\x01\x02")
    data[entry + 24 : entry + 28] = (50_000).to_bytes(4, "little")
    path.write_bytes(data)
    with pytest.raises(BadImage, match="another size than its archive declares"):
        opened(path).train.read(1)


def test_an_archive_is_indexed_once(tmp_path: Path, own_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import os
    import time

    path = write_tar(tmp_path / "s.tar", samples(0, 4))
    os.utime(path, (time.time() - 60, time.time() - 60))
    first = opened(path).train
    monkeypatch.setattr("vitrail.data.sources.shards.members", None)
    second = opened(path).train
    np.testing.assert_array_equal(first.targets, second.targets)
    assert first.read(2) == second.read(2)
