"""Files of torch.save that run code, or claim more than they hold."""

from __future__ import annotations

import builtins
import io
import os
import pickle
import posix
import struct
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from spoiling import CANARY, FIRST, Call, Spoil, device, fifo, weights


class Build:
    """Unpickles as ``function(*arguments)`` with a state."""

    def __init__(self, function: Any, arguments: tuple[Any, ...], state: Any) -> None:
        self.parts = function, arguments, state

    def __reduce__(self) -> Any:
        return self.parts


def torch_file(make: Callable[[dict[str, Any]], Any], **options: Any) -> Spoil:
    """``pytorch_model.bin`` in place of the safetensors: what ``make`` makes of the sound state."""

    def spoil(folder: Path) -> None:
        state = dict(load_file(weights(folder)))
        weights(folder).unlink()
        torch.save(make(state), folder / "pytorch_model.bin", **options)

    return spoil


def with_call(function: Any, *arguments: Any, **options: Any) -> Spoil:
    return torch_file(lambda state: {**state, "evil": Call(function, *arguments)}, **options)


def _plain_pickle(folder: Path) -> None:
    weights(folder).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Call(os.system, f"touch {CANARY}")))


def _joined_pickles(folder: Path) -> None:
    """A second pickle behind torch's magic number, as its old format has it."""
    weights(folder).unlink()
    numbers = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}]
    pickles = [*numbers, Call(posix.system, f"touch {CANARY}")]
    (folder / "pytorch_model.bin").write_bytes(b"".join(pickle.dumps(each, 2) for each in pickles))


def _tar(folder: Path) -> None:
    """torch's oldest format, whose unpickler once ran everything (CVE-2025-32434), with members that climb out."""
    weights(folder).unlink()
    with tarfile.open(folder / "pytorch_model.bin", "w") as archive:
        for name in ("storages", "tensors", "pickle", f"../{CANARY}", f"/tmp/{CANARY}-vitrail"):
            data = pickle.dumps(Call(os.system, f"touch {CANARY}"), 2)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def _zip_of(change: Callable[[str, bytes], tuple[bytes, int] | None]) -> Spoil:
    """Rewrite the members of a torch zip: (name, data) → (data, compression), None for unchanged."""

    def spoil(folder: Path) -> None:
        torch_file(lambda state: state)(folder)
        path = folder / "pytorch_model.bin"
        with zipfile.ZipFile(path) as archive:
            members = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w") as archive:
            for name, data in members.items():
                data, kind = change(name, data) or (data, zipfile.ZIP_STORED)
                archive.writestr(zipfile.ZipInfo(name), data, kind)

    return spoil


def _storage_claims(folder: Path) -> None:
    """The header of a tensor that claims 10^12 elements of a storage that has few: 1.6 kB of file, 4 TB of memory."""
    weights(folder).unlink()
    path = folder / "pytorch_model.bin"
    torch.save({"a": torch.zeros(77_777)}, path)
    huge = struct.pack("<B", 0x8A) + bytes([5]) + (10**12).to_bytes(5, "little")
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            if name.endswith("data.pkl"):
                assert data.count(b"J" + struct.pack("<i", 77_777)) == 2
                data = data.replace(b"J" + struct.pack("<i", 77_777), huge)
            archive.writestr(name, data[:1000])


def _flipped_pickle(folder: Path) -> None:
    torch_file(lambda state: state)(folder)
    path = folder / "pytorch_model.bin"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def _cut_pickle(folder: Path) -> None:
    torch_file(lambda state: state)(folder)
    path = folder / "pytorch_model.bin"
    os.truncate(path, path.stat().st_size // 2)


def _cut_legacy(folder: Path) -> None:
    torch_file(lambda state: state, _use_new_zipfile_serialization=False)(folder)
    path = folder / "pytorch_model.bin"
    os.truncate(path, path.stat().st_size - 100)


def _views(value: torch.Tensor) -> dict[str, torch.Tensor]:
    """Far more bytes than the storage that they share."""
    return {f"a{i}": value.flatten()[i % 8 : 24] for i in range(1000)}


def _cycle() -> dict[str, Any]:
    content: dict[str, Any] = {}
    content["model"] = content
    return content


def _torchscript(folder: Path) -> None:
    torch_file(lambda state: state)(folder)
    with zipfile.ZipFile(folder / "pytorch_model.bin", "a") as archive:
        archive.writestr("pytorch_model/constants.pkl", pickle.dumps(Call(os.system, f"touch {CANARY}"), 2))


def _deep_pickle(folder: Path) -> None:
    """Tuples in tuples as the key of a mapping: its hash overflows the stack."""
    weights(folder).unlink()
    deep = b"\x80\x02}" + b")" + b"\x85" * 500_000 + b"K\x01s."
    numbers = [torch.serialization.MAGIC_NUMBER, torch.serialization.PROTOCOL_VERSION, {}]
    (folder / "pytorch_model.bin").write_bytes(b"".join(pickle.dumps(each, 2) for each in numbers) + deep)


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "os.system": (with_call(os.system, f"touch {CANARY}"), "posix.system"),
    "os.system in the old format": (
        with_call(os.system, f"touch {CANARY}", _use_new_zipfile_serialization=False),
        "posix.system",
    ),
    "eval": (with_call(builtins.eval, f"open({CANARY!r}, 'w')"), "eval"),
    "exec": (with_call(builtins.exec, f"open({CANARY!r}, 'w')"), "exec"),
    "getattr": (with_call(getattr, Call(__import__, "os"), "system"), "getattr|__import__"),
    "a call inside an allowed one": (
        with_call(torch._utils._rebuild_parameter, Call(os.system, f"touch {CANARY}"), False, {}),
        "posix.system",
    ),
    "a subprocess": (with_call(subprocess.Popen, ["touch", CANARY]), "Popen"),
    "a module's pickle": (torch_file(lambda state: torch.nn.Linear(2, 2)), "Linear"),
    "a state for an allowed class": (
        torch_file(lambda state: {"a": Build(Counter, (), {"update": Call(os.system, f"touch {CANARY}")})}),
        "posix.system",
    ),
    "a plain pickle": (_plain_pickle, "system|unpickled|of protocol"),
    "joined pickles": (_joined_pickles, "posix.system"),
    "the tar format": (_tar, "oldest format"),
    "10^12 elements": (_storage_claims, "claims|memory|unpickled|bounds"),
    "a tensor of 10^12 numbers": (with_call(torch.FloatTensor, 10**12), "more memory"),
    "10^12 bytes": (with_call(bytearray, 10**12), "more memory"),
    "a view of one number": (torch_file(lambda state: {"a": torch.ones(1).expand(10**6, 10**6)}), "claims"),
    "a thousand views": (torch_file(lambda state: _views(state[FIRST])), "claim"),
    "a sparse tensor": (torch_file(lambda state: {"a": torch.eye(3).to_sparse()}), "no plain tensor"),
    "a tensor on meta": (torch_file(lambda state: {"a": torch.empty(3, device="meta")}), "no plain tensor"),
    "complex numbers": (torch_file(lambda state: {"a": torch.ones(3, dtype=torch.complex64)}), "complex"),
    "no tensors": (torch_file(lambda state: {"a": 1}), "no tensors"),
    "a tensor alone": (torch_file(lambda state: state[FIRST]), "no tensors"),
    "nested in itself": (torch_file(lambda state: _cycle()), "no tensors"),
    "a packed pickle": (_zip_of(lambda n, d: (d, zipfile.ZIP_DEFLATED)), "packed again"),
    "a zip bomb in a pickle": (
        _zip_of(lambda n, d: (bytes(50 * 2**20), zipfile.ZIP_DEFLATED) if n.endswith("data.pkl") else None),
        "packed again",
    ),
    "a TorchScript program": (_torchscript, "TorchScript"),
    "a bit flipped in a pickle": (_flipped_pickle, "damaged"),
    "a pickle cut in half": (_cut_pickle, "zip|unpickled"),
    "an old pickle cut": (_cut_legacy, "unpickled"),
    "a stack overflow": (_deep_pickle, "ended|unpickled|memory"),
    "NaN in a pickle": (torch_file(lambda state: {**state, FIRST: state[FIRST] * float("nan")}), "NaN or infinity"),
    "a pickle FIFO": (fifo("model.pt"), "not a regular file"),
    "a pickle device": (device("model.pth"), "not a regular file"),
}
