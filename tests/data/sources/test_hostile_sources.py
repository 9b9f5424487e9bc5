"""Hostile data: one line, within two seconds and 300 MB, whatever the source."""

from __future__ import annotations

import resource
import sys
import time
from pathlib import Path

import hostile_programs
import hostile_sources
import numpy as np
import pytest
from hostile_sources import BAD

from vitrail.data.inspection.check import check
from vitrail.data.media.decode import BadImage
from vitrail.data.source import SourceConfig, open_source
from vitrail.errors import UserError
from vitrail.ops import polygons, rle

SECONDS, MEMORY = 2.0, 300_000_000
REFUSED = hostile_sources.REFUSED | hostile_programs.REFUSED
TAKEN = hostile_sources.TAKEN | hostile_programs.TAKEN


@pytest.fixture(autouse=True)
def bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Its own cache; and the time and memory that a test may take."""
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
    begun, peak = time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    yield
    assert time.process_time() - begun < SECONDS
    if sys.platform == "linux":
        assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak) * 1024 < MEMORY


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "data").mkdir()
    return tmp_path / "data"


@pytest.mark.timeout(20, func_only=True)  # a hang is a failure
@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_in_one_line(case: str, folder: Path) -> None:
    build, cause = REFUSED[case]
    spec = build(folder)
    with pytest.raises(UserError, match=cause or None) as caught:
        open_source(SourceConfig(spec=str(spec), val_fraction=0))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 1500


@pytest.mark.timeout(20, func_only=True)
@pytest.mark.parametrize("case", BAD)
def test_an_image_is_bad_in_one_line(case: str, folder: Path) -> None:
    build, cause = BAD[case]
    splits = open_source(SourceConfig(spec=str(build(folder)), val_fraction=0, kind="masks"))
    with pytest.raises(BadImage, match=cause) as caught:
        splits.target_kind.read(splits.train.targets, 0)
    assert "\n" not in str(caught.value)
    assert any(cause in finding.text for finding in check(splits, workers=0).bad)


@pytest.mark.parametrize("case", TAKEN)
def test_what_is_harmless_is_taken(case: str, folder: Path) -> None:
    splits = open_source(SourceConfig(spec=str(TAKEN[case](folder)), val_fraction=0))
    assert check(splits, workers=0).ok


def test_outlines_are_drawn_in_parts_as_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    rings = [draw.uniform(-30, 90, (60, 2)) for _ in range(4)]
    whole = polygons.fill(rings, (50, 70))
    monkeypatch.setattr(polygons, "_DRAWN", 100)
    assert np.array_equal(polygons.fill(rings, (50, 70)), whole)
    assert whole.any()


def test_a_ring_beside_the_image_fills_nothing() -> None:
    assert not polygons.fill([np.array([[100.0, 0], [120, 0], [120, 20]])], (50, 70)).any()


@pytest.mark.parametrize("counts", [[2**63], [2**62] * 4, [-1, 10], ["a"], [[1]], None])
def test_runs_that_are_none(counts: object) -> None:
    with pytest.raises(ValueError, match=r"runs|invalid"):
        rle.decode(counts, (3, 3))
