from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from tiny import warm_context, write_data


@pytest.fixture(scope="session")
def bands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data set of :func:`tiny.write_data`."""
    return write_data(tmp_path_factory.mktemp("data") / "bands")


@pytest.fixture(scope="session")
def context() -> Any:
    """For child processes that start fast."""
    return warm_context()


@pytest.fixture(autouse=True)
def _one_thread() -> Any:
    """Tiny tensors only lose by sharing the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
