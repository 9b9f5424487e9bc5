"""Labels that may be missing, and a share of the training images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from vitrail.config import from_dict, to_dict
from vitrail.data.indexing.split import share
from vitrail.data.source import Source, SourceConfig, open_source
from vitrail.data.storage.arrays import Arrays
from vitrail.errors import UserError


def labelled(labels: list[int]) -> Source:
    images = np.zeros((len(labels), 1, 1), np.uint8)
    classes = tuple(map(str, range(max(labels) + 1)))
    return Arrays(images=images, label="x", targets=np.array(labels), kind="class", classes=classes)


@given(st.lists(st.integers(0, 6), min_size=1, max_size=200), st.floats(0.01, 1), st.integers(0, 2**63))
def test_every_class_gives_its_share(labels: list[int], fraction: float, seed: int) -> None:
    rows = share(labelled(labels).strata(), fraction, seed)
    assert (np.diff(rows) > 0).all()
    for label in set(labels):
        kept = sum(labels[i] == label for i in rows)
        assert kept >= 1
        assert abs(kept - labels.count(label) * fraction) <= 0.5 or kept == 1


@given(
    st.lists(st.integers(0, 6), min_size=1, max_size=200), st.floats(0.01, 1), st.floats(0.01, 1), st.integers(0, 2**63)
)
def test_a_larger_share_holds_the_smaller(labels: list[int], one: float, other: float, seed: int) -> None:
    small, large = (set(share(labelled(labels).strata(), part, seed).tolist()) for part in sorted((one, other)))
    assert small <= large
    assert len(share(labelled(labels).strata(), 1.0, seed)) == len(labels)


def test_the_draw_hangs_on_the_seed_alone() -> None:
    source = labelled([0] * 40 + [1] * 60)
    assert share(source.strata(), 0.1, 3).tolist() == share(source.strata(), 0.1, 3).tolist()
    draws = {tuple(share(source.strata(), 0.1, seed)) for seed in range(5)}
    assert len(draws) == 5
    assert {len(rows) for rows in draws} == {10}


def test_a_share_of_what_validation_leaves(capsys: pytest.CaptureFixture[str]) -> None:
    whole = open_source(SourceConfig(spec="digits"))
    part = open_source(SourceConfig(spec="digits", train_fraction=0.1))
    assert "train is 10.00% of all, seed 0" in capsys.readouterr().err
    assert [part.val.name(i) for i in range(len(part.val))] == [whole.val.name(i) for i in range(len(whole.val))]
    assert np.abs(part.train.counts() - 0.1 * whole.train.counts()).max() <= 0.5
    names = {whole.train.name(i) for i in range(len(whole.train))}
    assert {part.train.name(i) for i in range(len(part.train))} < names
    one_each = open_source(SourceConfig(spec="digits", train_fraction=1e-6))
    assert one_each.train.counts().tolist() == [1] * 10
    assert len(one_each.test) == len(whole.test)


def test_a_share_of_images_without_labels() -> None:
    part = open_source(SourceConfig(spec="digits", labelled=False, train_fraction=0.25))
    assert (part.kind, len(part.train)) == ("none", 359)


def test_the_config_survives_json_and_refuses_no_share() -> None:
    config = SourceConfig(spec="digits", labelled="auto", train_fraction=0.125)
    assert from_dict(SourceConfig, to_dict(config)) == config
    for fraction in (0.0, 1.5):
        with pytest.raises(UserError, match="train_fraction"):
            SourceConfig(spec="digits", train_fraction=fraction)


@pytest.fixture
def flat(tmp_path: Path, own_cache: Path) -> Path:
    """Three pictures in one folder."""
    folder = tmp_path / "flat"
    folder.mkdir()
    for number in range(3):
        Image.new("RGB", (9, 7), (number, 2, 3)).save(folder / f"{number}.png")
    return folder


def test_pictures_without_classes_open_unlabelled(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UserError):
        open_source(SourceConfig(spec=str(flat)))
    splits = open_source(SourceConfig(spec=str(flat), labelled="auto"))
    assert (splits.kind, splits.classes, len(splits.train), splits.val) == ("none", (), 3, None)
    assert "labels auto: none (" in capsys.readouterr().err


def test_one_class_opens_unlabelled(flat: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (flat.parent / "photos").mkdir()
    flat.rename(flat.parent / "photos" / "cat")
    with pytest.raises(UserError, match="holds one class, 'cat'"):
        open_source(SourceConfig(spec=str(flat.parent / "photos")))
    splits = open_source(SourceConfig(spec=str(flat.parent / "photos"), labelled="auto"))
    assert (splits.kind, len(splits.train)) == ("none", 3)
    assert "labels auto: none (" in capsys.readouterr().err


def test_classes_are_taken_where_there_are_some(capsys: pytest.CaptureFixture[str]) -> None:
    splits = open_source(SourceConfig(spec="digits", labelled="auto"))
    assert (splits.kind, len(splits.classes)) == ("class", 10)
    assert "labels auto" not in capsys.readouterr().err


def test_nothing_there_stays_an_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="there is no file"):
        open_source(SourceConfig(spec=str(tmp_path / "gone"), labelled="auto"))
