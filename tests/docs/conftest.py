from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHOWN = 6000  # characters of a failing page's output


@pytest.fixture(scope="session")
def environment(programs: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What a page's programs see, those among them that are preloaded."""
    return os.environ | {
        "PATH": os.pathsep.join([str(programs), str(Path(sys.executable).parent), os.environ["PATH"]]),
        "XDG_CACHE_HOME": str(tmp_path_factory.getbasetemp() / "cache"),
        "MPLBACKEND": "Agg",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
    }


@pytest.fixture
def run_page(tmp_path: Path, programs: Path, environment: dict[str, str]) -> Callable[[Path], Path]:
    """``run_page(page)`` runs a page's blocks in an empty folder, which it returns, and fails with their output."""

    def run(page: Path) -> Path:
        done = subprocess.run(
            [programs / "run-page", str(page)],
            cwd=tmp_path,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )
        shown = f"{done.stdout[-SHOWN:]}\n{done.stderr[-SHOWN:]}"
        assert done.returncode == 0, f"{page.relative_to(ROOT)} does not run:\n{shown}"
        return tmp_path

    return run
