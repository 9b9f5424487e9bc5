"""A column of ones and zeros for each class, one 1 a row (HAM10000, plant pathology, ``to_categorical``).

``1.0, 0.0`` was read as numbers, for regression. Siblings looked at: integers, the arrays of ``.npz``, several 1 a row
(several labels, with a decimal point too), other columns than the model's classes or in another order, ``--task``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from wild_files import opened, picture

from vitrail.errors import UserError


def written(folder: Path, text: str, **options: object):
    (folder / "t.csv").write_text(text)
    return opened(folder / "t.csv", **options)


@pytest.mark.parametrize(("one", "zero"), [("1.0", "0.0"), ("1", "0"), ("True", "False")])
def test_in_a_table(tmp_path: Path, capsys, one: str, zero: str) -> None:
    text = f"image,NV,MEL,BCC\na,{one},{zero},{zero}\nb,{zero},{zero},{one}\nc,{zero},{one},{zero}\n"
    splits = written(tmp_path, text)
    assert (splits.kind, splits.classes) == ("class", ("NV", "MEL", "BCC"))
    assert splits.split("train").targets.tolist() == [0, 2, 1]
    assert "a 1 in one of 3 columns, so one class an image" in capsys.readouterr().err
    assert written(tmp_path, text, kind="multilabel").kind == "multilabel"
    assert written(tmp_path, text, classes=("BCC", "MEL", "NV")).split("train").targets.tolist() == [2, 0, 1]


def test_several_a_row_are_several_labels(tmp_path: Path) -> None:
    splits = written(tmp_path, "image,sun,sea\na,1.0,0.0\nb,1.0,1.0\n")
    assert (splits.kind, splits.split("train").targets.tolist()) == ("multilabel", [[1, 0], [1, 1]])
    other = written(tmp_path, "image,sun,sea\na,1,0\nb,1,1\n", classes=("sea", "sand", "sun"))
    assert other.split("train").targets.tolist() == [[0, 0, 1], [1, 0, 1]]
    with pytest.raises(UserError, match="row 2: the class 'sun' is not among"):
        written(tmp_path, "image,sun,sea\na,1,0\nb,1,1\n", classes=("sea", "sand"))


def test_in_arrays(tmp_path: Path) -> None:
    images = np.stack([picture(i) for i in range(4)])
    np.savez(tmp_path / "d.npz", x_train=images, y_train=np.eye(3)[[2, 0, 1, 2]].astype(np.float32))
    splits = opened(tmp_path / "d.npz")
    assert (splits.kind, splits.split("train").targets.tolist()) == ("class", [2, 0, 1, 2])
    np.savez(tmp_path / "d.npz", images=images, labels=np.linspace(0, 1, 8).reshape(4, 2))
    assert opened(tmp_path / "d.npz").kind == "number"
