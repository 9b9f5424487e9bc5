from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _index_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No test meets an index that another one left."""
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache"))
