"""Labels of a table that look like numbers (fastai#1008).

``01``, ``1``, ``007`` and ``7`` were one class or another, ``1.10`` was ``1.1``, and ``1_1`` was ``11``. A label is a
text, unless the task is regression. Siblings looked at: tables with and without ``--task``, several labels in a cell,
``.cls`` and ``.json`` of WebDataset, other digits than 0 to 9, splits that look otherwise than training, whole numbers
with a point, which are regression and said.
"""

from __future__ import annotations

import tarfile
from pathlib import Path

import numpy as np
import pytest
from wild_files import opened, picture, png

from vitrail.errors import UserError


def classes(folder: Path, *labels: str, **options: object) -> tuple[str, tuple[str, ...]]:
    (folder / "t.csv").write_text("path,label\n" + "".join(f"{i}.png,{label}\n" for i, label in enumerate(labels)))
    splits = opened(folder / "t.csv", **options)
    return splits.kind, splits.classes


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        (("01", "1", "007", "7"), ("007", "01", "1", "7")),
        (("1.10", "1.1"), ("1.1", "1.10")),
        (("1_1", "11"), ("11", "1_1")),
        (("+1", "1"), ("+1", "1")),
        (("١", "1"), ("1", "١")),
        (("1e3", "1000", "1000.0"), ("1000", "1000.0", "1e3")),
        (("10", "9", "2"), ("2", "9", "10")),
        (("-1", "1"), None),
    ],
)
def test_what_is_written_differently_is_another_class(tmp_path: Path, labels, names) -> None:
    if names is None:
        with pytest.raises(UserError, match="the class -1 is out of range"):
            classes(tmp_path, *labels)
        return
    assert classes(tmp_path, *labels) == ("class", names)


def test_numbers_stay_numbers(tmp_path: Path, capsys) -> None:
    assert classes(tmp_path, "1.5", "2", "3.25")[0] == "number"
    assert classes(tmp_path, "01", "1.10", kind="number")[0] == "number"
    assert classes(tmp_path, "1.5", "2.25", kind="class") == ("class", ("1.5", "2.25"))
    assert "warning" not in capsys.readouterr().err
    assert classes(tmp_path, "1.0", "0.0")[0] == "number"
    assert "labels such as 1.0, 0.0 are read as numbers" in capsys.readouterr().err


def test_several_in_a_cell(tmp_path: Path) -> None:
    assert classes(tmp_path, "01|1", "7") == ("multilabel", ("01", "1", "7"))
    assert classes(tmp_path, '"[3, 10]"', '"[9]"') == ("multilabel", ("3", "9", "10"))


def test_another_split_is_not_folded_into_training(tmp_path: Path) -> None:
    rows = "a,1,train\nb,2,train\nc,01,val\n"
    (tmp_path / "t.csv").write_text(f"path,label,split\n{rows}")
    with pytest.raises(UserError, match=r"row 4: the class '01' is not among"):
        opened(tmp_path / "t.csv")


def test_in_shards(tmp_path: Path) -> None:
    with tarfile.open(tmp_path / "s.tar", "w") as archive:
        for number, label in enumerate(("7", "007")):
            for suffix, data in (("png", png(number)), ("cls", label.encode())):
                file = tmp_path / f"{number}.{suffix}"
                file.write_bytes(data)
                archive.add(file, file.name)
    assert opened(tmp_path / "s.tar").classes == ("007", "7")


def test_numbers_of_arrays_that_may_be_classes_are_said(tmp_path: Path, capsys) -> None:
    images = np.stack([picture(number) for number in range(3)])
    np.savez(tmp_path / "d.npz", images=images, labels=np.array([0.0, 1.0, 2.0]))
    assert opened(tmp_path / "d.npz").kind == "number"
    assert "labels such as 0.0, 1.0, 2.0 are read as numbers" in capsys.readouterr().err


def test_the_same_letters_in_two_encodings_are_said(tmp_path: Path, capsys) -> None:
    assert len(classes(tmp_path, "caf\u00e9", "cafe\u0301")[1]) == 2
    assert "differ by the encoding of accents alone" in capsys.readouterr().err


def test_numbers_with_a_comma_are_classes_and_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "t.csv").write_text("path;age\n0.png;0,5\n1.png;1,25\n")
    for number in range(2):
        (tmp_path / f"{number}.png").write_bytes(png(number))
    assert opened(tmp_path / "t.csv").classes == ("0,5", "1,25")
    assert "if they are numbers, write them with a point" in capsys.readouterr().err
