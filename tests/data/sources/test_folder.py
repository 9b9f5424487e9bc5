from __future__ import annotations

import os
import pickle
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data.media.decode import decode
from vitrail.data.source import SourceConfig, Splits, open_source
from vitrail.errors import UserError

pytestmark = pytest.mark.usefixtures("own_cache")


def draw(folder: Path, *names: str) -> Path:
    """One-colour images, each of its own colour."""
    for i, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 6), (i, 100, 200)).save(folder / name)
    return folder


def opened(folder: Path, **options: object) -> Splits:
    return open_source(SourceConfig(spec=str(folder), **({"val_fraction": 0} | options)))  # type: ignore[arg-type]


def names(splits: Splits, split: str) -> list[str]:
    source = dict(splits.items())[split]
    return [f"{Path(source.name(i)).name} {source.classes[source.targets[i]]}" for i in range(len(source))]


def test_one_folder_a_class(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "b/1.png", "a/2.jpg", "b/0.PNG", "a/x/9.webp")
    splits = opened(folder, class_level="top")
    assert names(splits, "train") == ["2.jpg a", "9.webp a", "0.PNG b", "1.png b"]
    image = decode(splits.train.read(2))
    assert image.size == (8, 6)
    assert image.getpixel((0, 0)) == (2, 100, 200)


def test_the_folders_of_splits(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = draw(tmp_path / "p", "Train/a/1.png", "Train/b/2.png", "valid/b/3.png", "test/a/4.png", "extra/c/5.png")
    splits = opened(folder)
    assert splits.classes == ("a", "b")
    assert [names(splits, split) for split in ("train", "val", "test")] == [
        ["1.png a", "2.png b"],
        ["3.png b"],
        ["4.png a"],
    ]
    assert "skipped extra" in capsys.readouterr().err


def test_two_folders_for_one_split(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "train/a/1.png", "val/a/2.png", "valid/a/3.png")
    with pytest.raises(UserError, match="holds val and valid; keep one"):
        opened(folder)


def test_a_class_may_be_called_test(tmp_path: Path) -> None:
    assert opened(draw(tmp_path / "p", "test/1.png", "exam/2.png")).classes == ("exam", "test")


def test_only_a_test_split(tmp_path: Path) -> None:
    splits = opened(draw(tmp_path / "p", "test/a/1.png", "test/b/2.png"))
    assert [split for split, _ in splits.items()] == ["test"]


def test_a_trained_models_classes_come_first(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "c/1.png", "a/2.png")
    splits = opened(folder, classes=("a", "b", "c"))
    assert (splits.classes, splits.train.targets.tolist()) == (("a", "b", "c"), [0, 2])
    with pytest.raises(UserError, match=r"'c'.*is not among the given classes"):
        opened(folder, classes=("a", "b"))


def test_nested_folders_by_level(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "cat/big/1.png", "cat/small/2.png", "dog/3.png")
    with pytest.raises(UserError, match="two levels of folders that may be classes, as in 'cat/big'"):
        opened(folder)
    assert opened(folder, class_level="leaf").classes == ("cat/big", "cat/small", "dog")
    assert opened(folder, class_level="top").classes == ("cat", "dog")


def test_unlabelled_images_may_lie_anywhere(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "1.png", "x/2.png", "x/y/3.png")
    splits = opened(folder, labelled=False)
    assert (splits.kind, len(splits.train)) == ("none", 3)


def test_other_files_are_passed_over_aloud_and_hidden_ones_in_silence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = draw(tmp_path / "p", "a/1.png", "b/2.png", "a/.hidden.png")
    (folder / "a" / "notes.txt").write_text("x")
    assert len(opened(folder).train) == 2
    assert "skipped files not named as images (1)" in capsys.readouterr().err


def test_no_images_at_all(tmp_path: Path) -> None:
    (tmp_path / "p" / "a").mkdir(parents=True)
    with pytest.raises(UserError, match="holds no images"):
        opened(tmp_path / "p", labelled=False)


def test_links_inside_are_followed_once(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "a/1.png", "b/2.png")
    (folder / "b" / "same.png").symlink_to(folder / "a" / "1.png")
    (folder / "b" / "alias").symlink_to(folder / "a")
    assert names(opened(folder), "train") == ["1.png a", "2.png b", "same.png b"]


def test_a_dangling_link_is_named_when_read(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "a/1.png", "b/2.png")
    (folder / "a" / "gone.png").symlink_to("nowhere.png")
    source = opened(folder).train
    with pytest.raises(UserError, match="no such file"):
        source.read(1)


def test_the_index_notices_new_files(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", "a/1.png", "b/2.png")
    for path in (folder, folder / "a", folder / "b"):
        os.utime(path, (time.time() - 60, time.time() - 60))
    assert len(opened(folder).train) == 2
    assert len(list((tmp_path / "cache" / "vitrail" / "index").iterdir())) == 1
    draw(folder, "b/3.png")
    assert names(opened(folder), "train") == ["1.png a", "2.png b", "3.png b"]


def test_a_million_samples_would_travel_as_columns(tmp_path: Path) -> None:
    folder = draw(tmp_path / "p", *(f"{k}/{i:03d}.png" for k in "ab" for i in range(100)))
    source = opened(folder).train
    assert len(pickle.dumps(source)) / len(source) < 60  # bytes a sample
    copy = pickle.loads(pickle.dumps(source))
    np.testing.assert_array_equal(copy.targets, source.targets)
    assert copy.read(150) == source.read(150)
