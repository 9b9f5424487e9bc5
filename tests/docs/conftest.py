from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

RUNNER = Path(__file__).with_name("blocks.py")
ROOT = Path(__file__).resolve().parents[2]
SHOWN = 6000  # characters of a failing page's output


@pytest.fixture
def run_page(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Path], Path]:
    """``run_page(page)`` runs a page's blocks in an empty folder, which it returns, and fails with their output."""
    cache = tmp_path_factory.getbasetemp() / "cache"
    environment = os.environ | {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]),
        "XDG_CACHE_HOME": str(cache),
        "MPLBACKEND": "Agg",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "120",
    }

    def run(page: Path) -> Path:
        command = [sys.executable, str(RUNNER), str(page)]
        done = subprocess.run(
            command,
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
