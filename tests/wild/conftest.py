from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def _cache_of_its_own(own_cache: Path) -> None:
    """No test meets an index that another one left."""
