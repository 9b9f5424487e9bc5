"""Hostile weights files through everything that opens one: a line that names the file, and nothing runs or fills up."""

from __future__ import annotations

import hashlib
import json
import os
import pickle
import resource
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import vitrail
from vitrail import config
from vitrail.cli import main
from vitrail.data import DataConfig, SourceConfig
from vitrail.errors import UserError
from vitrail.train import state
from vitrail.train.run import Run
from vitrail.vit import ViTConfig

NAME = "w.safetensors"
MAX_BYTES = 300_000_000


@pytest.fixture
def good(tiny_predictor: Any, tmp_path: Path) -> Path:
    """Sound weights to spoil."""
    tiny_predictor().save(tmp_path / NAME)
    return tmp_path / NAME


@pytest.fixture(autouse=True)
def _place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    draw = np.random.default_rng(0)
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for i in range(3):
            pixels = draw.integers(0, 256, (16, 16, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{i}.png")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VITRAIL_CACHE", str(tmp_path / "cache" / "vitrail"))


def parts(path: Path) -> tuple[dict[str, Any], dict[str, Any], bytes]:
    """Header (without metadata), meta, and the tensors' bytes."""
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    meta = json.loads(header.pop("__metadata__")["vitrail"])
    return header, meta, data[end:]


def rebuild(path: Path, header: dict[str, Any] | str, meta: dict[str, Any], body: bytes) -> None:
    tensors = header if isinstance(header, str) else json.dumps(header)[1:]
    text = f'{{"__metadata__": {json.dumps({"vitrail": json.dumps(meta)})}, {tensors}'.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def spoil_meta(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    def spoil(path: Path) -> None:
        header, meta, body = parts(path)
        change(meta)
        rebuild(path, header, meta, body)

    return spoil


def spoil_tensor(change: Callable[[dict[str, Any]], object]) -> Callable[[Path], None]:
    """Change what the header says about the first weight."""

    def spoil(path: Path) -> None:
        header, meta, body = parts(path)
        change(header["head.output.weight"])
        rebuild(path, header, meta, body)

    return spoil


def spoil_model(**settings: Any) -> Callable[[Path], None]:
    return spoil_meta(lambda meta: meta["config"]["model"].update(settings))


def _lying_length(path: Path) -> None:
    path.write_bytes((2**40).to_bytes(8, "little") + path.read_bytes()[8:])


def _twice(path: Path) -> None:
    header, meta, body = parts(path)
    name = "head.output.weight"
    rebuild(path, f"{json.dumps(name)}: {json.dumps(header[name])}, " + json.dumps(header)[1:], meta, body)


def _meta_twice(path: Path) -> None:
    header, meta, body = parts(path)
    inner = json.dumps(meta)
    text = json.dumps({"__metadata__": {"vitrail": inner[:-1] + ', "task": "regression"}'}, **header}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def _nan(path: Path) -> None:
    header, meta, body = parts(path)
    at = header["head.output.weight"]["data_offsets"][0]
    rebuild(path, header, meta, body[:at] + np.float32("nan").tobytes() + body[at + 4 :])


def _renamed(path: Path) -> None:
    header, meta, body = parts(path)
    header["../../evil"] = header.pop("head.output.weight")
    rebuild(path, header, meta, body)


class Exploit:
    """A pickle that leaves a file where it is opened."""

    def __reduce__(self) -> Any:
        return os.system, ("touch pwned",)


def _pickle(path: Path) -> None:
    path.write_bytes(pickle.dumps(Exploit()))


def _torch_pickle(path: Path) -> None:
    torch.save({"weights": torch.randn(3), "evil": Exploit()}, path)


def _device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _loop(path: Path) -> None:
    path.unlink()
    path.symlink_to(path)


def _sparse(path: Path) -> None:
    """A gigabyte that takes no room on disk, claimed by one tensor."""
    header, meta, body = parts(path)
    size = 2**30
    header["huge"] = {"dtype": "F32", "shape": [size // 4], "data_offsets": [len(body), len(body) + size]}
    rebuild(path, header, meta, body)
    os.truncate(path, path.stat().st_size + size)


HOSTILE: dict[str, Callable[[Path], None]] = {
    "header claims a terabyte": _lying_length,
    "tensor twice": _twice,
    "meta key twice": _meta_twice,
    "absurd shape": spoil_tensor(lambda entry: entry.update(shape=[10**15, 0])),
    "shape beyond its bytes": spoil_tensor(lambda entry: entry.update(shape=[10**12])),
    "integers for weights": spoil_tensor(lambda entry: entry.update(dtype="I32")),
    "another order of the shape": spoil_tensor(lambda entry: entry["shape"].reverse()),
    "range beyond the file": spoil_tensor(lambda entry: entry.update(data_offsets=[0, 2**50])),
    "tensor of another name": _renamed,
    "a sparse gigabyte": _sparse,
    "NaN": _nan,
    "cut in the header": lambda path: os.truncate(path, 100),
    "cut in the tensors": lambda path: os.truncate(path, path.stat().st_size - 1000),
    "pickle": _pickle,
    "torch.save": _torch_pickle,
    "device": _device,
    "FIFO": _fifo,
    "link to itself": _loop,
    "a million layers": spoil_model(depth=10**6),
    "layers that are not there": spoil_model(depth=200),
    "width": spoil_model(dim=10**6, heads=1),
    "widest that is allowed": spoil_model(dim=16384, depth=256, mlp_dim=131072, heads=256),
    "patches": spoil_model(image_size=[16384, 16384], patch_size=[1, 1]),
    "more classes than outputs": spoil_meta(lambda meta: meta["config"].update(classes=["c"] * 50_000)),
    "no classes": spoil_meta(lambda meta: meta["config"].update(classes=[])),
    "classes are no names": spoil_meta(lambda meta: meta["config"].update(classes=[["a"], {}, 3, None])),
    "config is a list": spoil_meta(lambda meta: meta.update(config=[])),
    "model is a text": spoil_meta(lambda meta: meta["config"].update(model="S/16")),
    "no preprocessing": spoil_meta(lambda meta: meta.pop("preprocess")),
    "preprocessing for another size": spoil_meta(lambda meta: meta["preprocess"].update(size=[5, 5])),
    "task of the standard library": spoil_meta(lambda meta: meta.update(task="os.path")),
    "task of another package": spoil_meta(lambda meta: meta.update(task="payload.thing")),
    "task that is a path": spoil_meta(lambda meta: meta.update(task="../../payload")),
    "task is a list": spoil_meta(lambda meta: meta.update(task=["classification"])),
}

COMMANDS = {
    "predict": ["predict", NAME, "photos/cat/0.png", "--device", "cpu"],
    "embed": ["embed", NAME, "photos", "--out", "e.npz", "--device", "cpu"],
    "evaluate": ["evaluate", NAME, "photos", "--out", "out", "--device", "cpu"],
    "explain": ["explain", NAME, "photos/cat/0.png", "--device", "cpu"],
    "train": [
        *("train", "photos", "--init", NAME, "--epochs", "1", "--batch-size", "2", "--workers", "0", "--no-report"),
        *("--device", "cpu", "--precision", "fp32", "--name", "x"),
    ],
}


@pytest.fixture
def payload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """``payload.thing`` can be imported, and leaves a file behind if it is."""
    (tmp_path / "payload").mkdir()
    for name in ("__init__", "thing"):
        (tmp_path / "payload" / f"{name}.py").write_text("open('pwned', 'w')\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield
    assert not [name for name in sys.modules if name.startswith("payload")]


OPENED_ALIKE = ("embed", "evaluate", "explain")  # as predict does: tried with one case of each kind
KINDS = ("header claims a terabyte", "FIFO", "widest that is allowed", "config is a list", "task of another package")


@pytest.mark.usefixtures("payload")
@pytest.mark.timeout(60, func_only=True)  # a hang is a failure
@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_file_is_one_line(good: Path, case: str, capsys: pytest.CaptureFixture[str]) -> None:
    HOSTILE[case](good)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for verb, command in COMMANDS.items():
        if verb in OPENED_ALIKE and case not in KINDS:
            continue
        assert main(command) == 2, verb
        err = capsys.readouterr().err
        errors = [line for line in err.splitlines() if "error:" in line]
        assert errors == [err.splitlines()[-1]], verb
        assert errors[0].startswith("vitrail: error: "), verb
        assert NAME in errors[0], verb
        assert len(errors[0]) < 1000, verb
    with pytest.raises(UserError, match=NAME):
        vitrail.load(good, device="cpu")
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024 < MAX_BYTES
    assert not Path("pwned").exists()
    assert not Path("runs/x/weights").exists()


@pytest.mark.usefixtures("payload")
@pytest.mark.parametrize(
    "setting", ["data.source.spec=payload.thing:photos", "task=payload.thing", "loggers=[payload.thing]"]
)
def test_a_run_folder_names_no_code(good: Path, setting: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Its config is the word of whoever made it; the user's own command line may name modules."""
    run = Run(data=DataConfig(source=SourceConfig(spec="photos")), model=ViTConfig())
    Path("runs/x/weights").mkdir(parents=True)
    good.rename("runs/x/weights/best.safetensors")
    config.save(config.override(run, config.parse_assignments([setting])), "runs/x/config.yaml")
    commands = [["train", "--resume", "runs/x"], ["train", "photos", "--name", "x"]]
    if "spec" in setting:
        commands.append(["evaluate", "runs/x", "--device", "cpu"])
    for command in commands:
        assert main(command) == 2
        assert "config.yaml names the module 'payload.thing'" in capsys.readouterr().err.splitlines()[-1]
    assert main(["explain", "runs/x", "--device", "cpu"]) == 0  # what the model has learned needs no data
    assert not Path("pwned").exists()


@pytest.mark.timeout(60, func_only=True)
@pytest.mark.parametrize("names", [[], ["/dev/zero"], ["../../secret"], ["state.json"], ["state.json", "x"]])
def test_a_manifest_is_about_its_own_files(tmp_path: Path, names: list[str]) -> None:
    (tmp_path / "state.json").write_text("{}")
    digest = hashlib.sha256(b"{}").hexdigest()
    (tmp_path / "manifest.json").write_text(json.dumps({"sha256": dict.fromkeys(names, digest)}))
    assert state.damage(tmp_path) == "manifest.json does not list the files of a state"
