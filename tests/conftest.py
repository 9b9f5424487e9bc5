from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def real_data() -> Path:
    """The folder of real images and weights that lies beside the checkout on development machines."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the real images and weights are not on this machine (looked for {folder})")
    return folder
