"""Lists of classes for an image (transformers#16003).

Lists of ids ended in a traceback, or as one class "0" where all are of one length. Siblings looked at: Hugging Face
with and without names, WebDataset's JSON, lists of names, of one and of different lengths, empty ones, indicators (0 or
1 for each class, which stay so), numbers, and what is no label at all.
"""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest
from PIL import Image
from wild_files import opened, png

from vitrail.data.indexing.labels import from_values
from vitrail.errors import UserError


def shards(folder: Path, labels: list[object]):
    with tarfile.open(folder / "s.tar", "w") as archive:
        for number, label in enumerate(labels):
            for suffix, data in (("png", png(number)), ("json", json.dumps({"label": label}).encode())):
                info = tarfile.TarInfo(f"{number}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))
    return opened(folder / "s.tar")


@pytest.mark.parametrize(
    ("labels", "classes", "targets"),
    [
        ([[3], [10, 3], []], ("3", "10"), [[1, 0], [1, 1], [0, 0]]),
        ([[3], [1]], ("1", "3"), [[0, 1], [1, 0]]),
        ([[0], [1], [1]], ("0", "1"), [[1, 0], [0, 1], [0, 1]]),
        ([["sea"], ["sun", "sea"]], ("sea", "sun"), [[1, 0], [1, 1]]),
        ([[1, 0], [1, 1]], ("0", "1"), [[1, 0], [1, 1]]),
        ([[2], 5], ("2", "5"), [[1, 0], [0, 1]]),
    ],
)
def test_in_shards(tmp_path: Path, labels, classes, targets) -> None:
    splits = shards(tmp_path, labels)
    assert (splits.kind, splits.classes, splits.split("train").targets.tolist()) == ("multilabel", classes, targets)


def test_numbers_and_what_is_no_label() -> None:
    assert from_values([[0.5, 2], [1.5, 3]]).shape == (2, 2)  # type: ignore[union-attr]
    for wrong, cause in (([[0.5], [1.5, 3]], "different lengths"), ([[[1]], [2]], "no label"), ([[None]], "no label")):
        with pytest.raises(ValueError, match=cause):
            from_values(wrong)


def test_a_list_in_a_list_is_an_error_of_one_line(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="a list of labels holds what is no label"):
        shards(tmp_path, [[[1]], [2]])


def test_names_of_the_hub_are_kept(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    images = [Image.open(io.BytesIO(png(number))) for number in range(3)]
    names = datasets.Sequence(datasets.ClassLabel(names=["ant", "bee", "cat"]))
    features = datasets.Features({"image": datasets.Image(), "labels": names})
    rows = datasets.Dataset.from_dict({"image": images, "labels": [[2], [0, 1], [1]]}, features=features)
    rows.save_to_disk(tmp_path / "named")
    splits = opened(tmp_path / "named")
    assert (splits.kind, splits.classes) == ("multilabel", ("ant", "bee", "cat"))
    assert splits.split("train").targets.tolist() == [[0, 0, 1], [1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize(
    ("labels", "kind", "said"),
    [
        (('"scab,rust"', "scab", "rust"), "multilabel", "'scab,rust' is read as several labels"),
        (("scab rust", "scab", "rust"), "class", "say what divides them: label_separator=' '"),
        (("haze primary", "clear primary", "haze", "clear"), "class", "say what divides them: label_separator=' '"),
        (('"tench, Tinca tinca"', "goldfish", "shark"), "class", ""),
    ],
)
def test_joined_by_commas_or_spaces(tmp_path: Path, capsys, labels, kind, said) -> None:
    (tmp_path / "t.csv").write_text("path,label\n" + "".join(f"{i}.png,{each}\n" for i, each in enumerate(labels)))
    assert opened(tmp_path / "t.csv").kind == kind
    assert said in (err := capsys.readouterr().err)
    assert said or "labels:" not in err


def test_regions_in_cells_are_refused(tmp_path: Path) -> None:
    cell = '"[{""x"": 1, ""rectanglelabels"": [""cat""]}]"'
    (tmp_path / "t.csv").write_text(f"image,label\na.png,{cell}\n")
    with pytest.raises(UserError, match=r"row 2: the label in column 'label' is a list of regions"):
        opened(tmp_path / "t.csv")
