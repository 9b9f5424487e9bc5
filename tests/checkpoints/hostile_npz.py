"""NumPy archives that run code, climb or explode."""

from __future__ import annotations

import io
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.torch import load_file
from spoiling import CANARY, Call, Spoil, device, fifo, weights

MEGABYTE = 2**20


def npz(change: Callable[[dict[str, np.ndarray]], dict[str, Any]] = dict) -> Spoil:
    """``model.npz`` in place of the safetensors."""

    def spoil(folder: Path) -> None:
        arrays = {name: value.numpy() for name, value in load_file(weights(folder)).items()}
        weights(folder).unlink()
        np.savez(folder / "model.npz", allow_pickle=True, **change(arrays))

    return spoil


def npz_members(*members: tuple[str | zipfile.ZipInfo, bytes], packed: bool = False) -> Spoil:
    """An archive of any members."""

    def spoil(folder: Path) -> None:
        weights(folder).unlink()
        kind = zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED
        with zipfile.ZipFile(folder / "model.npz", "w", kind) as archive:
            for name, data in members:
                archive.writestr(name, data)

    return spoil


def npy(text: str, body: bytes = b"", version: bytes = b"\x01\x00") -> bytes:
    return b"\x93NUMPY" + version + struct.pack("<H", len(text)) + text.encode() + body


def array() -> bytes:
    buffer = io.BytesIO()
    np.save(buffer, np.ones(4, np.float32))
    return buffer.getvalue()


def _npz_twice(folder: Path) -> None:
    weights(folder).unlink()
    with zipfile.ZipFile(folder / "model.npz", "w") as archive:
        archive.writestr("a.npy", array())
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("a.npy", array())


def _encrypted(folder: Path) -> None:
    npz()(folder)
    data = bytearray((folder / "model.npz").read_bytes())
    for magic, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        place = data.find(magic)
        while place >= 0:
            data[place + offset] |= 1
            place = data.find(magic, place + 4)
    (folder / "model.npz").write_bytes(data)


def _npz_cut(folder: Path) -> None:
    npz()(folder)
    os.truncate(folder / "model.npz", (folder / "model.npz").stat().st_size // 2)


HOSTILE: dict[str, tuple[Spoil, str]] = {
    "packed a thousand times": (npz_members(("a.npy", array() + bytes(20 * MEGABYTE)), packed=True), "unpack"),
    "an object array": (npz(lambda a: {"a": np.array([Call(os.system, f"touch {CANARY}")], object)}), "no weight"),
    "an array of texts": (npz(lambda a: {"a": np.array(["x"])}), "no weight"),
    "records": (npz(lambda a: {"a": np.zeros(3, [("x", "f4")])}), "no weight"),
    "dates": (npz(lambda a: {"a": np.zeros(3, "M8[s]")}), "no weight"),
    "a header that is code": (
        npz_members(("a.npy", npy(f"__import__('os').system('touch {CANARY}')\n"))),
        "cannot be read",
    ),
    "a header that lies": (
        npz_members(("a.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000000,)}\n"))),
        "does not fit",
    ),
    "a header without end": (npz_members(("a.npy", npy(" " * 60_000))), "cannot be read"),
    "a negative shape in an array": (
        npz_members(("a.npy", npy("{'descr': '<f4', 'fortran_order': False, 'shape': (-1, -4)}\n", bytes(16)))),
        "",
    ),
    "no array": (npz_members(("a.npy", b"hello")), "cannot be read"),
    "an array twice": (_npz_twice, "repeats a name"),
    "a member that climbs": (npz_members((f"../../{CANARY}.npy", array())), "no dialect"),
    "an absolute member": (npz_members((f"/tmp/{CANARY}.npy", array())), "no dialect"),
    "a member that is no array": (npz_members(("a.npy", array()), ("run.py", b"")), "no plain array"),
    "an encrypted archive": (_encrypted, "no plain array"),
    "an archive cut in half": (_npz_cut, "no zip archive"),
    "an archive FIFO": (fifo("model.npz"), "no weights file|regular"),
    "an archive device": (device("model.npz"), "no weights file|regular"),
}
