from __future__ import annotations

import platform
import subprocess
import sys

import pytest

from vitrail.train import allocator

PAGES = """
import resource, sys, torch
from vitrail.train.allocator import keep_freed_memory
if sys.argv[1] == "kept":
    assert keep_freed_memory()
def touch():
    for _ in range(10):
        torch.ones(16 << 20)  # 64 MB
touch()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
touch()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(mode: str) -> int:
    done = subprocess.run([sys.executable, "-c", PAGES, mode], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the setting is glibc's")
def test_large_blocks_are_not_faulted_in_again() -> None:
    assert faults("default") > 1000  # else there is nothing to gain and the next line proves nothing
    assert faults("kept") < 100


def test_other_c_libraries_have_no_such_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(allocator.ctypes, "CDLL", lambda name: object())
    assert allocator.keep_freed_memory() is False
