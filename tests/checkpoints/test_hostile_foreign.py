"""Hostile files of other libraries: one line that says why, and nothing runs, hangs or fills up."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hostile_folders
import hostile_npz
import hostile_pickles
import hostile_safetensors
import numpy as np
import pytest
import torch
from hostile_folders import config
from hostile_pickles import torch_file
from PIL import Image
from safetensors.torch import load_file
from spoiling import CANARY, FIRST, weights

import vitrail
from vitrail.checkpoints import foreign
from vitrail.checkpoints.description import Description
from vitrail.cli import main
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.tasks import classification
from vitrail.vit import ViTConfig

HOSTILE = {**hostile_safetensors.HOSTILE, **hostile_pickles.HOSTILE, **hostile_npz.HOSTILE, **hostile_folders.HOSTILE}

opened: list[str] = []  # what this process opens while a test watches
watching: list[bool] = []


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    if watching and event == "open" and isinstance(arguments[0], str | bytes):
        opened.append(os.path.realpath(os.fsdecode(arguments[0])))


sys.addaudithook(_watch)


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Hugging Face folder."""
    vit = ViTConfig(image_size=32, patch_size=16, dim=32, depth=2, heads=2, mlp_dim=64)
    task = classification.Task(classification.Config(model=vit, classes=("ant", "bee", "cat")))
    for parameter in task.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    out = tmp_path_factory.mktemp("sound") / "model"
    return foreign.save("hf_vit", out, Description.of(task, PreprocessConfig(size=(32, 32))), task.state_dict())


@pytest.fixture
def folder(sound: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy to spoil, below the working directory; a picture next to it."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save("picture.png")
    (tmp_path / "secret.safetensors").write_bytes((sound / "model.safetensors").read_bytes())
    return Path(shutil.copytree(sound, tmp_path / "model"))


CLI = ("a sparse gigabyte", "os.system", "10^12 elements", "an object array", "a shard above", "a FIFO", "no heads")
BIG = (
    "a sparse gigabyte", "packed a thousand times", "10^12 elements", "a tensor of 10^12 numbers",
    "a zip bomb in a pickle", "a hundred megabytes of config", "a hundred megabytes of names", "ten million labels",
    "a hundred megabytes of index",
)  # fmt: skip


@pytest.mark.usefixtures("forked_python")
@pytest.mark.timeout(60, func_only=True)  # a hang is a failure
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_one_line(folder: Path, case: str) -> None:
    spoil, reason = HOSTILE[case]
    target = spoil(folder) or folder
    before = set(folder.parent.rglob("*"))
    opened.clear()
    watching.append(True)
    try:
        with pytest.raises(UserError, match=reason or None) as caught:
            vitrail.load(target, device="cpu", allow_pickle=True)
    finally:
        watching.clear()
    message = str(caught.value)
    assert "\n" not in message
    assert len(message) < 1000
    assert set(folder.parent.rglob("*")) == before  # no canary, no litter
    assert not Path(f"/tmp/{CANARY}-vitrail").exists()
    assert not {os.path.realpath(path) for path in ("secret.safetensors", "/etc/passwd")} & set(opened)


@pytest.mark.fuzz
@pytest.mark.timeout(60, func_only=True)
@pytest.mark.parametrize("case", CLI)
def test_on_the_command_line_too(folder: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    target = HOSTILE[case][0](folder) or folder
    assert main(["predict", str(target), "picture.png", "--device", "cpu", "--allow-pickle"]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[-1].startswith("vitrail: error: ")
    assert sum("error" in line for line in lines) == 1
    assert main(["inspect", str(target), "--allow-pickle"]) == 2
    assert not Path(CANARY).exists()


MEASURE = """\
import re, resource, sys, vitrail
try:
    vitrail.load(sys.argv[1], device="cpu", allow_pickle=True)
except vitrail.UserError:
    pass
own = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())  # ru_maxrss begins at that of who started it
print(max(int(own[1]), resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
"""


@pytest.fixture(scope="module")
def peak(programs: Path) -> Callable[[Path, bool], int]:
    """``peak(target, pickled)``: bytes that a process, or the child that it starts for a pickle, takes at most to open
    a model. That child has to be its own, so a pickle's process begins from nothing.
    """

    def measure(target: Path, pickled: bool) -> int:
        python = sys.executable if pickled else programs / "python"
        return int(subprocess.run([python, "-c", MEASURE, target], check=True, capture_output=True).stdout) * 1024

    return measure


@pytest.fixture(scope="module")
def bases(sound: Path, peak: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, int]:
    """The peaks for a harmless small model, by whether it is a pickle."""
    pickled = Path(shutil.copytree(sound, tmp_path_factory.mktemp("pickled") / "model"))
    torch_file(lambda state: state)(pickled)
    return {False: peak(sound, False), True: peak(pickled, True)}


@pytest.mark.fuzz
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from Linux's /proc")
@pytest.mark.parametrize("case", BIG)
def test_memory_stays_within_twice_the_file(folder: Path, peak: Any, bases: dict[bool, int], case: str) -> None:
    pickled = case in hostile_pickles.HOSTILE
    target = HOSTILE[case][0](folder) or folder
    size = sum(file.stat().st_blocks * 512 for file in folder.iterdir())  # a hole takes no room
    assert peak(target, pickled) <= 2 * size + 1.05 * bases[pickled]


@pytest.mark.usefixtures("forked_python")
def test_pickles_open_only_when_that_was_said(folder: Path) -> None:
    torch_file(lambda state: state)(folder)
    with pytest.raises(UserError, match="--allow-pickle"):
        vitrail.load(folder, device="cpu")


def test_what_is_harmless_opens(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    evil = "evil.Evil--code"
    names = {"0": "a\x1b[2Jb\nc", "1": "\u202eb", "2": "c"}
    config(auto_map={"AutoModel": evil}, id2label=names, trust_remote_code=True)(folder)
    (folder / "evil.py").write_text(f"open({CANARY!r}, 'w')")
    assert vitrail.load(folder, device="cpu").classes == tuple(names.values())
    assert main(["predict", str(folder), "picture.png", "--device", "cpu"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\u202e" not in out
    assert len(out.splitlines()) == 2
    assert not Path(CANARY).exists()


@pytest.mark.usefixtures("forked_python")
@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    "nest",
    [
        lambda state: state,
        lambda state: {"model": state, "epoch": 3, "lr": 0.1},
        lambda state: {"student": halved(state, "module.backbone."), "teacher": prefixed(state, "backbone.")},
        lambda state: {"state_dict": prefixed(halved(state), "module."), "state_dict_ema": state, "epoch": 1},
        lambda state: {"model": {"state_dict": prefixed(state, "module.model.")}},
    ],
)
def test_a_training_checkpoint_opens_as_its_weights(folder: Path, nest: Any, zipped: bool) -> None:
    expected = dict(load_file(weights(folder)))
    torch_file(nest, _use_new_zipfile_serialization=zipped)(folder)
    state = vitrail.load(folder, device="cpu", allow_pickle=True).task.state_dict()
    assert torch.equal(state["vit.class_token"], expected[FIRST])


def prefixed(state: dict[str, Any], prefix: str) -> dict[str, Any]:
    """As DINO nests it: a projection head beside."""
    head = {"head.mlp.0.weight": torch.ones(3, 3)} if prefix.endswith("backbone.") else {}
    return {prefix + name: value for name, value in state.items()} | head


def halved(state: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    return {prefix + name: value / 2 for name, value in state.items()}
