"""What Vitrail does where Windows lacks a part of POSIX: in a process that has lost these parts."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

WITHOUT = """
import os, pkgutil, sys
import PIL.Image, matplotlib.pyplot, sklearn.datasets, torch, torchvision.transforms.v2, vitrail  # other people's code
import scipy.optimize, cyclopts, multiprocessing.spawn, rich.progress, safetensors.torch, yaml, torch.distributed
for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_DIRECTORY", "preadv", "sched_getaffinity", "mkfifo"):
    delattr(os, name)  # fork and signals stay: Python itself and PyTorch use them here
class Msvcrt:
    LK_NBLCK = 2
    def locking(self, descriptor, mode, num_bytes):
        pass
sys.modules |= dict.fromkeys(("fcntl", "resource", "termios", "pwd", "grp"), None) | {"msvcrt": Msvcrt()}
here, sys.platform = sys.platform, "win32"
import vitrail.locks, vitrail.checkpoints.unpickle, vitrail.benchmarking.worker, vitrail.train.launch
sys.platform = here
try:
    import fcntl
except ImportError:
    pass
else:
    sys.exit("this process still has POSIX' locks")
"""

EVERY_MODULE = """
for module in pkgutil.walk_packages(vitrail.__path__, "vitrail."):
    if module.name != "vitrail.__main__":
        __import__(module.name)
"""

TRAIN = """
from vitrail.cli import main
def run(*words):
    print("$", *words, flush=True)
    assert main(words) == 0, words
run("data", "export", "digits", "--limit", "40", "--out", "photos")
run("data", "check", "photos")
run("train", "photos", "--name", "a", "--model", "Ti/4", "--image-size", "16", "--epochs", "1", "--batch-size", "16",
    "--device", "cpu", "--no-report")
run("predict", "runs/a", "photos/3", "--device", "cpu")
"""


def run(program: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + program],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=280,
    )
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is left to take away")
def test_every_module_is_imported_and_a_training_runs_without_posix(tmp_path: Path) -> None:
    run(EVERY_MODULE + TRAIN, tmp_path)
    assert (tmp_path / "runs/a/weights/best.safetensors").exists()
