from __future__ import annotations

import json
import mmap
import os
import resource
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

import vitrail
from vitrail.checkpoints import native
from vitrail.errors import UserError

META = {"task": "classification", "config": {"classes": ["a", "ü"]}, "metrics": {"top1": 0.5}}


def write(path: Path, header: dict[str, Any] | bytes, body: bytes = b"", *, length: int | None = None) -> Path:
    """A file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + body)
    return path


def ours(**tensors: Any) -> dict[str, Any]:
    return {"__metadata__": {"vitrail": json.dumps({"format": "vitrail", "version": 1})}, **tensors}


def entry(shape: list[Any], begin: int, end: int, dtype: str = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file may grow beyond ``size`` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_there_and_back(tmp_path: Path) -> None:
    state = {
        "w": torch.randn(3, 4),
        "half": torch.randn(5).bfloat16(),
        "count": torch.tensor(7),
        "mask": torch.tensor([True, False, True]),
        "strided": torch.randn(4, 6).t(),
        "scalar": torch.tensor(0.25),
    }
    state["tied"] = state["w"]
    native.save(tmp_path / "deep" / "x.safetensors", state, META)
    back = native.load(tmp_path / "deep" / "x.safetensors")
    assert back.state.keys() == state.keys()
    for name, value in state.items():
        assert back.state[name].dtype == value.dtype
        assert torch.equal(back.state[name], value), name
    assert back.meta == {"format": "vitrail", "version": 1, **META} == native.read_meta(tmp_path / "deep/x.safetensors")
    assert os.listdir(tmp_path / "deep") == ["x.safetensors"]


def test_other_readers_can_read_it(tmp_path: Path) -> None:
    state = {"a": torch.randn(2, 3), "b": torch.randn(4).half()}
    native.save(tmp_path / "x.safetensors", state, META)
    theirs = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(theirs[name], state[name]) for name in state)


def test_a_full_disk_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    native.save(path, {"w": torch.ones(10)}, META)
    with full_disk(10_000), pytest.raises(UserError, match=r"x\.safetensors \(400,000 bytes\).*too large"):
        native.save(path, {"w": torch.randn(100_000)}, META)
    assert torch.equal(native.load(path).state["w"], torch.ones(10))
    assert os.listdir(tmp_path) == ["x.safetensors"]


HOSTILE: dict[str, tuple[Any, bytes, str]] = {
    "unknown dtype": (ours(a=entry([1], 0, 4, "F4096")), b"0000", "'a' has a dtype"),
    "shape larger than its bytes": (ours(a=entry([10**12], 0, 4)), b"0000", "'a' has a dtype"),
    "bytes larger than its shape": (ours(a=entry([1], 0, 8)), b"0" * 8, "'a' has a dtype"),
    "no elements, absurd shape": (ours(a=entry([0, 10**15], 0, 0)), b"", "'a' has a dtype"),
    "negative shape": (ours(a=entry([-1, -1], 0, 4)), b"0000", "'a' has a dtype"),
    "true for a size": (ours(a=entry([True], 0, 4)), b"0000", "'a' has a dtype"),
    "overlap": (ours(a=entry([1], 0, 4), b=entry([1], 0, 4)), b"0000", "'b' has a dtype"),
    "hole": (ours(a=entry([1], 4, 8)), b"0" * 8, "'a' has a dtype"),
    "backwards": (ours(a=entry([1], 4, 0)), b"0000", "'a' has a dtype"),
    "beyond the end": (ours(a=entry([2], 0, 8)), b"0000", "the file has"),
    "bytes left over": (ours(a=entry([1], 0, 4)), b"00000", "the file has"),
    "tensor is a list": (ours(a=[1, 2]), b"", "'a' has a dtype"),
    "extra key": (ours(a={**entry([1], 0, 4), "x": 1}), b"0000", "'a' has a dtype"),
    "header is a list": (b"[]", b"", "no mapping"),
    "header is no JSON": (b"{", b"", "not JSON"),
    "header is no text": (b"\xff\xfe", b"", "not JSON"),
    "deep nesting": (b"[" * 400_000, b"", "not JSON"),
    "repeated key": (b'{"a": 1, "a": 2}', b"", "repeats a key"),
    "no metadata": ({"a": entry([1], 0, 4)}, b"0000", "did not write"),
    "meta is no mapping": ({"__metadata__": {"vitrail": "[]"}}, b"", "did not write"),
    "meta repeats a key": ({"__metadata__": {"vitrail": '{"a": 1, "a": 2}'}}, b"", "repeats a key"),
    "meta holds NaN": ({"__metadata__": {"vitrail": '{"format": NaN}'}}, b"", "NaN in JSON"),
    "another version": ({"__metadata__": {"vitrail": '{"format": "vitrail", "version": 9}'}}, b"", "upgrade vitrail"),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_files_are_refused(case: str, tmp_path: Path) -> None:
    header, body, reason = HOSTILE[case]
    path = write(tmp_path / "bad.safetensors", header, body)
    with pytest.raises(UserError, match=reason) as error:
        native.load(path)
    assert "bad.safetensors" in str(error.value)
    assert "\n" not in str(error.value)


def test_headers_are_bounded_before_they_are_read(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="claims 1,000,000,000,000 bytes"):
        native.load(write(tmp_path / "x", b"{}", length=10**12))
    with pytest.raises(UserError, match="cut short"):
        native.load(write(tmp_path / "x", b"{}", length=100))
    (tmp_path / "empty").write_bytes(b"")
    with pytest.raises(UserError, match="cut short"):
        native.load(tmp_path / "empty")
    with pytest.raises(UserError, match="No such file"):
        native.load(tmp_path / "absent")
    with pytest.raises(UserError, match="Is a directory"):
        native.load(tmp_path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, tmp_path: Path) -> None:
    native.save(tmp_path / "x", {"w": torch.tensor([1.0, value])}, META)
    with pytest.raises(UserError, match="'w' holds NaN or infinity"):
        native.load(tmp_path / "x")


def test_a_foreign_safetensors_file_is_not_ours(tmp_path: Path) -> None:
    save_file({"w": torch.randn(3)}, tmp_path / "x.safetensors", {"format": "pt"})
    with pytest.raises(UserError, match="Vitrail did not write it"):
        native.load(tmp_path / "x.safetensors")


@settings(max_examples=200, deadline=None)
@given(position=st.integers(0, 10_000), value=st.integers(0, 255))
def test_a_flipped_byte_never_crashes(tmp_path_factory: pytest.TempPathFactory, position: int, value: int) -> None:
    path = tmp_path_factory.mktemp("flip") / "x.safetensors"
    native.save(path, {"w": torch.arange(12.0).reshape(3, 4), "n": torch.tensor(3)}, META)
    data = bytearray(path.read_bytes())
    data[position % len(data)] = value
    path.write_bytes(data)
    try:
        state = native.load(path).state
    except UserError:
        return
    assert sum(tensor.nbytes for tensor in state.values()) < len(data)


def test_loading_into_a_module_without_memory() -> None:
    source = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    with torch.device("meta"):
        target = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4))
    target[0].weight.requires_grad_(False)
    native.load_into(target, source.state_dict(), where="x")
    x = torch.randn(2, 3)
    assert torch.equal(source(x), target(x))
    assert not target[0].weight.requires_grad
    assert target[0].bias.requires_grad


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("0.bias"), "model.st lacks 0.bias; it belongs to another architecture"),
        (lambda s: s.update(extra=torch.ones(1)), "has the unknown extra"),
        (lambda s: s.update({"0.bias": torch.ones(5)}), "another shape or dtype for 0.bias"),
        (lambda s: s.update({"0.bias": torch.ones(4).half()}), "another shape or dtype for 0.bias"),
    ],
)
def test_names_shapes_and_dtypes_must_agree(change: Any, message: str) -> None:
    module = nn.Sequential(nn.Linear(3, 4))
    before = module[0].weight.clone()
    state = {name: torch.randn_like(value) for name, value in module.state_dict().items()}
    change(state)
    with pytest.raises(UserError, match=message):
        native.load_into(module, state, where="model.st")
    assert torch.equal(module[0].weight, before)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
def test_tensors_have_room_on_every_system(system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    state = {"w": torch.randn(3, 5), "half": torch.randn(7).bfloat16()}
    native.save(tmp_path / "x.safetensors", state, META)
    monkeypatch.setattr(sys, "platform", system)
    if system == "win32":
        monkeypatch.delattr(os, "preadv")
        monkeypatch.delattr(mmap, "MAP_PRIVATE")
    back = native.load(tmp_path / "x.safetensors").state
    assert all(torch.equal(back[name], state[name]) for name in state)


def of_version(path: Path, version: str) -> Path:
    meta = f'{{"format": "vitrail"{version}, "task": "from tomorrow", "unknown": [1]}}'
    return write(path, {"__metadata__": {"vitrail": meta}, "w": entry([1], 0, 4)}, bytes(4))


@pytest.mark.parametrize("read", [native.load, native.read_meta])
@pytest.mark.parametrize("version", ["", ', "version": 1'], ids=["none", "first"])
def test_files_of_the_first_version_and_without_one_open(read: Any, version: str, tmp_path: Path) -> None:
    read(of_version(tmp_path / "x.safetensors", version))


@pytest.mark.parametrize("read", [native.load, native.read_meta, vitrail.load, vitrail.inspect])
@pytest.mark.parametrize("version", [native.VERSION + 1, 99])
def test_a_newer_file_says_to_upgrade_before_anything_else(read: Any, version: int, tmp_path: Path) -> None:
    path = of_version(tmp_path / "x.safetensors", f', "version": {version}')
    with pytest.raises(UserError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path} has format version {version}, and Vitrail {vitrail.__version__} reads up to {native.VERSION}; "
        "upgrade vitrail: pip install --upgrade vitrail"
    )


@pytest.mark.parametrize("version", ["0", "-1", "true", "1.0", '"1"', "null", "[2]"])
def test_a_version_that_is_none_is_refused(version: str, tmp_path: Path) -> None:
    path = of_version(tmp_path / "x.safetensors", f', "version": {version}')
    with pytest.raises(UserError, match="declares no valid format version"):
        native.load(path)
