"""The table of differences between each dialect and its library."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from vitrail import registry
from vitrail.checkpoints import foreign


def test_the_table_of_parity_names_every_dialect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parents[3] / "benchmarks")
    parity = __import__("parity")
    try:
        compared = {case.dialect for case in parity.cases()}
        assert compared | parity.OTHERS.keys() == set(registry.names(foreign.DIALECTS))
        assert not compared & parity.OTHERS.keys()
        (row,) = parity.table(["vit_pytorch"])
        assert row.difference < 1e-5
        assert row.library.startswith("vit-pytorch ")
    finally:
        sys.modules.pop("parity", None)
