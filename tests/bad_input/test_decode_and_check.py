"""Every case of the corpus through decode, open_source and check."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from corpus import CASES, dataset_with, image_cases
from corpus_case import Case, good_folder, photo, png, without_root_powers

from vitrail import console
from vitrail.data.inspection.check import check
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.read import read_regular
from vitrail.data.source import SourceConfig, Splits, open_source
from vitrail.errors import UserError

MAX_SECONDS, MAX_BYTES = 2.0, 300_000_000
SOURCES = [case for case in CASES if case.kind != "image"]


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))
    return tmp_path / "cache"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "case").mkdir()
    return tmp_path / "case"


def test_all_48_cases_are_there() -> None:
    assert {case.number for case in CASES} == set(range(1, 49))


@pytest.mark.parametrize("case", image_cases(), ids=str)
def test_image(case: Case, root: Path) -> None:
    path = case.build(root)
    told: list[str] = []
    with without_root_powers():
        if case.expect == "reject":
            with pytest.raises(BadImage, match=case.cause):
                decode(read_regular(path))
            return
        image = decode(read_regular(path), warn=told.append)
    assert bool(told) == (case.expect == "warn")
    assert case.cause in "".join(told)
    assert image.mode == "RGB"
    if case.golden is not None:
        wanted = case.golden()
        assert np.asarray(image).shape == wanted.shape
        assert np.abs(np.asarray(image, np.int16) - wanted).max() <= case.tolerance


@pytest.mark.skipif(sys.platform != "linux", reason="resets the peak memory through /proc")
@pytest.mark.parametrize("case", image_cases(), ids=str)
def test_image_stays_within_time_and_memory(case: Case, root: Path) -> None:
    path = case.build(root)
    before = _reset_peak()
    started = time.process_time()
    with contextlib.suppress(BadImage):
        decode(read_regular(path), warn=lambda text: None)
    assert time.process_time() - started < MAX_SECONDS
    assert _peak() - before < MAX_BYTES


def _reset_peak() -> int:
    Path("/proc/self/clear_refs").write_text("5")
    return _peak()


def _peak() -> int:
    status = Path("/proc/self/status").read_text()
    return int(status.split("VmHWM:")[1].split()[0]) * 1024


@pytest.mark.parametrize("case", image_cases(), ids=str)
def test_check_lists_the_image_with_its_cause(case: Case, root: Path) -> None:
    folder = dataset_with(case, root)
    before = _snapshot(folder)
    with without_root_powers():
        report = check(str(folder), workers=0)
    assert report.ok == (case.expect != "reject")
    findings = report.bad if case.expect == "reject" else report.warned
    assert len(findings) == (case.expect != "accept")
    for finding in findings:
        assert case.cause in finding.text
        assert "\n" not in str(finding)
        assert os.path.join("train", "cat") in finding.name
    assert all(line.isprintable() for line in report.lines())
    assert _snapshot(folder) == before


@pytest.mark.parametrize("case", SOURCES, ids=str)
def test_source(case: Case, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = case.build(root)
    before = _snapshot(root)
    started, peak = time.process_time(), _reset_peak()
    config = SourceConfig(spec=str(path), val_fraction=0, **case.options)
    if case.expect == "reject" and case.after_open is None:
        with pytest.raises(UserError, match=case.cause) as caught:
            open_source(config)
        assert path.name in str(caught.value)
        assert "\n" not in str(caught.value)
    else:
        splits = open_source(config)
        _go_through(case, path, splits)
        if case.expect == "warn":
            assert case.cause in capsys.readouterr().err
    assert time.process_time() - started < MAX_SECONDS
    assert _peak() - peak < MAX_BYTES
    if case.after_open is None:
        assert _snapshot(root) == before


def _go_through(case: Case, path: Path, splits: Splits) -> None:
    if case.after_open is not None:
        case.after_open(path)
    report = check(splits, workers=0)
    if case.expect == "report":
        assert any(case.cause in line for line in report.lines())
    if case.expect == "reject":
        assert [case.cause in finding.text for finding in report.bad] == [True]
    else:
        assert report.ok


def _snapshot(folder: Path) -> list[tuple[str, int]]:
    return sorted((os.fsencode(path), path.lstat().st_mtime_ns) for path in folder.rglob("*"))


def test_same_leaf_under_two_parents_stays_apart(root: Path) -> None:
    case = next(case for case in CASES if case.name == "same-leaf-under-two-parents")
    splits = open_source(SourceConfig(spec=str(case.build(root)), val_fraction=0, class_level="leaf"))
    assert splits.classes == ("cat/large", "cat/small", "dog/large", "dog/small")
    assert splits.train.counts().tolist() == [3, 3, 3, 3]


def test_empty_class_is_accepted_when_asked(root: Path) -> None:
    case = next(case for case in CASES if case.number == 39)
    splits = open_source(SourceConfig(spec=str(case.build(root)), allow_empty_class=True, val_fraction=0))
    assert splits.classes == ("bird", "cat", "dog")
    assert splits.train.counts().tolist() == [0, 4, 4]
    assert check(splits, workers=0).empty_classes == {"train": ["bird"]}


@pytest.mark.parametrize("name", ["symlink-to-a-file-outside", "symlink-to-a-folder-outside"])
def test_links_out_are_followed_when_asked(name: str, root: Path) -> None:
    case = next(case for case in CASES if case.name == name)
    config = SourceConfig(spec=str(case.build(root)), follow_symlinks=True, val_fraction=0, class_level="top")
    assert open_source(config).train.counts().tolist() == [5, 4]


def test_loops_end_even_when_links_are_followed(root: Path) -> None:
    case = next(case for case in CASES if case.number == 35)
    splits = open_source(SourceConfig(spec=str(case.build(root)), follow_symlinks=True, val_fraction=0))
    assert splits.train.counts().tolist() == [4, 4]


def test_fifo_is_passed_over_aloud(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    case = next(case for case in CASES if case.name == "fifo")
    open_source(SourceConfig(spec=str(case.build(root)), val_fraction=0))
    assert "FIFOs, devices or sockets (1)" in capsys.readouterr().err


def test_a_fifo_or_device_is_never_read(root: Path) -> None:
    os.mkfifo(root / "pipe.png")
    for path in (root / "pipe.png", Path("/dev/zero")):
        with pytest.raises(BadImage, match="not a regular file"):
            read_regular(path)


def test_unreadable_folder_is_named(root: Path) -> None:
    folder = good_folder(root / "photos", splits=())
    (folder / "cat").chmod(0)
    with without_root_powers(), pytest.raises(UserError, match=r"cat: the folder cannot be read: permission denied"):
        open_source(SourceConfig(spec=str(folder)))
    (folder / "cat").chmod(0o755)


def test_names_are_escaped_for_people(root: Path) -> None:
    for number in (33, 34):
        for case in (case for case in CASES if case.number == number):
            folder = dataset_with(case, root / case.name)
            source = open_source(SourceConfig(spec=str(folder))).train
            for i in range(len(source)):
                assert source.name(i) == console.printable(source.name(i))
                decode(source.read(i))


def test_the_default_limit_rejects_the_160_kb_bomb(root: Path) -> None:
    bomb = next(case for case in CASES if case.name.startswith("13000x13000")).build(root)
    assert bomb.stat().st_size < 200_000
    with pytest.raises(BadImage, match="13000 × 13000 pixels, more than the limit of 50,000,000"):
        decode(bomb.read_bytes())
    with pytest.raises(BadImage, match="more than the limit of 4,095"):
        decode(photo_file(), max_pixels=4095)
    assert decode(photo_file(), max_pixels=4096).size == (64, 64)


def photo_file() -> bytes:
    return png(photo())
