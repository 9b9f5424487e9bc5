"""Validation splits and folds that keep groups whole and never learn from the future."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail.data.indexing.grouped import encode_groups, encode_times, parts, periods
from vitrail.data.indexing.split import folds
from vitrail.data.source import SourceConfig, Splits, open_source
from vitrail.errors import UserError

DRAWN = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 15)), min_size=30, max_size=120)


@given(DRAWN, st.integers(2, 4), st.integers(0, 2**32))
def test_groups_stay_whole_and_no_part_is_empty(samples: list[tuple[int, int]], number: int, seed: int) -> None:
    strata, groups = np.array(samples).T
    if len(set(groups.tolist())) < number:
        with pytest.raises(UserError, match="cannot be divided"):
            parts(strata, groups, [1 / number] * number, seed)
        return
    found = parts(strata, groups, [1 / number] * number, seed)
    assert set(found.tolist()) == set(range(number))
    for group in set(groups.tolist()):
        assert len(set(found[groups == group].tolist())) == 1


def test_parts_of_many_small_groups_hold_every_class_alike() -> None:
    """As scikit-learn's StratifiedGroupKFold: with 200 groups of 5, the shares of classes differ by little."""
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(200), 5)
    strata = np.repeat(rng.choice(3, 200, p=[0.6, 0.3, 0.1]), 5)
    found = parts(strata, groups, [0.2] * 5, 0)
    for label in range(3):
        counts = np.bincount(found[strata == label], minlength=5)
        assert counts.max() - counts.min() <= 5  # one group
    held = parts(strata, groups, [0.1, 0.9], 1) == 0
    np.testing.assert_allclose([held[strata == label].mean() for label in range(3)], 0.1, atol=0.02)


@given(st.lists(st.integers(0, 40), min_size=8, max_size=100), st.integers(2, 5))
def test_periods_follow_one_another(values: list[int], number: int) -> None:
    times = np.array(values, np.float64)
    if len(set(values)) < number:
        with pytest.raises(UserError, match="cannot be divided"):
            periods(times, None, [1 / number] * number)
        return
    found = periods(times, None, [1 / number] * number)
    assert set(found.tolist()) == set(range(number))
    for period in range(1, number):
        assert times[found == period].min() > times[found == period - 1].max()


def test_periods_have_their_shares() -> None:
    times = np.random.default_rng(0).permutation(100).astype(np.float64)
    assert np.bincount(periods(times, None, [0.9, 0.1])).tolist() == [90, 10]
    assert np.bincount(periods(times, None, [0.25] * 4)).tolist() == [25] * 4


def test_a_group_is_in_the_period_of_its_last_sample() -> None:
    times, groups = np.array([0.0, 9, 1, 2, 3, 4]), np.array([7, 7, 1, 1, 2, 2])
    assert periods(times, groups, [0.7, 0.3]).tolist() == [1, 1, 0, 0, 0, 0]


def test_folds_divide_every_class_alike() -> None:
    strata = np.array([0] * 13 + [1] * 7 + [2])
    found = folds(strata, 4, 0)
    assert np.ptp(np.bincount(found)) <= 1
    for label in range(3):
        assert np.ptp(np.bincount(found[strata == label], minlength=4)) <= 1
    assert found.tolist() != folds(strata, 4, 1).tolist()


def test_cells_of_columns() -> None:
    found = encode_groups({"train": ["b", "a"], "val": ["a", "10"]})
    assert found["train"][1] == found["val"][0]
    assert len({*found["train"].tolist(), *found["val"].tolist()}) == 3
    assert encode_times(["2019", "1e3"], str).tolist() == [2019, 1000]
    dates = encode_times(["1970-01-02", "1970-01-01 00:00:01", "1970-01-01T01:00+01:00"], str)
    assert dates.tolist() == [86400, 1, 0]
    with pytest.raises(UserError, match="row 1: the time 'soon' is no number, as the first is"):
        encode_times(["2019", "soon"], lambda place: f"row {place}")
    with pytest.raises(UserError, match="the time 'nan' is no date"):
        encode_times(["nan"], str)


def table(folder: Path, *, split: str = "") -> str:
    """24 rows of 8 patients, three a patient on consecutive days; two classes."""
    lines = ["path,label,patient,day" + (",split" if split else "")]
    for i in range(24):
        day = f"2024-01-{i + 1:02}"
        own = f",{'val' if str(i) in split.split() else 'train'}" if split else ""
        lines.append(f"{i}.png,{'ab'[i // 3 % 2]},p{i // 3},{day}{own}")
    (folder / "table.csv").write_text("\n".join(lines))
    return str(folder / "table.csv")


def names(splits: Splits, split: str) -> list[int]:
    source = splits.split(split)
    return [int(Path(source.name(i)).stem) for i in range(len(source))]


def test_a_table_with_groups(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = table(tmp_path)
    splits = open_source(SourceConfig(spec=spec, group_column="patient", val_fraction=0.25))
    patients = [{i // 3 for i in names(splits, split)} for split in ("train", "val")]
    assert not patients[0] & patients[1]
    assert sorted(splits.val.targets.tolist()) == [0, 0, 0, 1, 1, 1]
    assert splits.val.groups is not None
    assert "val is 25% of train, whole groups of 'patient', seed 0" in capsys.readouterr().err
    held = []
    for fold in (1, 2, 3, 4):
        found = open_source(SourceConfig(spec=spec, group_column="patient", folds=4, fold=fold))
        assert not {i // 3 for i in names(found, "train")} & {i // 3 for i in names(found, "val")}
        assert len(found.train) + len(found.val) == 24
        held += names(found, "val")
    assert sorted(held) == list(range(24))


def test_a_table_with_times(tmp_path: Path) -> None:
    spec = table(tmp_path)
    splits = open_source(SourceConfig(spec=spec, time_column="day", val_fraction=0.25))
    assert names(splits, "val") == list(range(18, 24))
    assert splits.classes == ("a", "b"), "the columns are no labels"
    second = open_source(SourceConfig(spec=spec, time_column="day", folds=3, fold=2))
    assert (names(second, "train"), names(second, "val")) == (list(range(12)), list(range(12, 18)))
    whole = open_source(SourceConfig(spec=spec, time_column="day", group_column="patient", val_fraction=0.2))
    assert names(whole, "val") == list(range(18, 24))
    shared = open_source(SourceConfig(spec=spec, time_column="day", train_fraction=0.5, val_fraction=0.25))
    assert max(names(shared, "train")) < min(names(shared, "val"))


def test_folds_without_columns(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    held = [names(open_source(SourceConfig(spec=table(tmp_path), folds=3, fold=n)), "val") for n in (1, 2, 3)]
    assert sorted(i for each in held for i in each) == list(range(24))
    assert "fold 3 of 3, seed 0" in capsys.readouterr().err
    own = open_source(SourceConfig(spec=table(tmp_path, split="0 1 2 3"), folds=2))
    assert len(own.train) == len(own.val) == 10
    assert "the val split" in capsys.readouterr().err


def test_splits_that_share_groups_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    spec = table(tmp_path, split="2 3 4 5 6")
    open_source(SourceConfig(spec=spec, group_column="patient", time_column="day"))
    said = capsys.readouterr().err
    assert "2 groups of column 'patient' are in train and in val" in said
    assert "train reaches into the time of val by column 'day'" in said


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"group_column": "patent"}, "did you mean 'patient'"),
        ({"group_column": "patient", "folds": 9}, "'patient': 8 groups cannot be divided into 9 parts"),
        ({"time_column": "day", "folds": 24}, "'day': 24 times cannot be divided into 25 periods"),
        ({"time_column": "patient"}, "row 2: the time 'p0' is no date; write it as 2024"),
        ({"folds": 3, "fold": 4}, "fold 4 is none of the 3 folds"),
        ({"folds": 30, "fold": 30}, "24 samples are too few for 30 folds"),
    ],
)
def test_what_cannot_be_divided_is_named(options: dict[str, object], message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=message):
        open_source(SourceConfig(spec=table(tmp_path), **options))  # type: ignore[arg-type]


def test_columns_need_a_table(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"'digits' is no table and has no column 'writer'.*\.csv"):
        open_source(SourceConfig(spec="digits", group_column="writer"))
    (tmp_path / "t.csv").write_text("path,label,patient\na.png,x,1\nb.png,y,\n")
    with pytest.raises(UserError, match="row 3: the group is missing"):
        open_source(SourceConfig(spec=str(tmp_path / "t.csv"), group_column="patient"))
