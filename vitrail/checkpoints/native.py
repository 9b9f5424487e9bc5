"""Our weights file: safetensors, with everything else that a model needs as JSON in its header.

Layout (https://github.com/huggingface/safetensors#format): 8 bytes of header length, a JSON header that gives each
tensor's dtype, shape and byte range, then the bytes. ``__metadata__["vitrail"]`` holds our meta as JSON::

    {"format": "vitrail", "version": 1, "task": ..., "config": {...}, "preprocess": {...},
     "metrics": {...}, "training": {...}}

A file is somebody else's until proven ours: the header is bounded and checked against the file's real size
before a byte is allocated, and the header that was checked is the one that is used.
"""

from __future__ import annotations

import errno
import json
import math
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from vitrail import files
from vitrail.errors import UserError

VERSION = 1
MAX_HEADER = 1_000_000  # bytes; a ViT-g has 60 kB
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Checkpoint:
    """A file's content: tensors by name on the CPU, and the meta."""

    state: dict[str, Tensor]
    meta: dict[str, Any]


@dataclass(frozen=True)
class _Entry:
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int  # bytes from the start of the file
    end: int


def save(path: str | Path, state: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and meta to ``path``, atomically.

    Raises:
        UserError: the disk is full or failing; a file that was there before is untouched.
    """
    with files.replacing(path, size=sum(value.nbytes for value in state.values())) as temporary:
        write(temporary, state, meta)


def write(path: Path, state: dict[str, Tensor], meta: dict[str, Any]) -> None:
    """Write tensors and meta, not atomically: for a file in a folder that is.

    Raises:
        OSError: the disk is full or failing.
    """
    text = json.dumps({"format": "vitrail", "version": VERSION, **meta}, allow_nan=False)
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    _own_memory(tensors)
    try:
        save_file(tensors, path, {"vitrail": text})
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def load(path: str | Path, *, like: Mapping[str, Tensor] | None = None) -> Checkpoint:
    """Read a file that :func:`save` wrote.

    Args:
        like: what it must hold, by name; compared with the header before a tensor is read.

    Raises:
        UserError: absent, damaged, hostile, or not ours.
    """
    path = Path(path)
    with _open(path) as file:
        entries, meta = _read_header(file, path)
        if like is not None:
            _require_alike(like, entries, where=path)
        state = {name: _read_tensor(file, entry) for name, entry in entries.items()}
    for name, value in state.items():
        if value.is_floating_point() and not bool(value.isfinite().all()):
            raise UserError(f"{path}: tensor {name!r} holds NaN or infinity; use an earlier file")
    return Checkpoint(state, meta)


def read_meta(path: str | Path) -> dict[str, Any]:
    """The meta alone; no tensor is read. Errors as in :func:`load`."""
    path = Path(path)
    with _open(path) as file:
        return _read_header(file, path)[1]


def require(path: str | Path, like: Mapping[str, Tensor]) -> None:
    """Compare the header with what the file must hold; no tensor is read. Errors as in :func:`load`."""
    path = Path(path)
    with _open(path) as file:
        _require_alike(like, _read_header(file, path)[0], where=path)


def load_into(module: nn.Module, state: dict[str, Tensor], *, where: str | Path) -> None:
    """Give ``module`` (on any device, ``meta`` too) the tensors of ``state``; names, shapes and dtypes must agree.

    Raises:
        UserError: they do not; ``where`` (a file name) is repeated.
    """
    _require_alike(module.state_dict(), state, where=where)
    module.load_state_dict(state, assign=True)


def _require_alike(expected: Mapping[str, Tensor], found: Mapping[str, Tensor | _Entry], *, where: str | Path) -> None:
    differing = [n for n in expected if n in found and not _alike(expected[n], found[n])]
    for problem, names in (
        ("lacks", [name for name in expected if name not in found]),
        ("has the unknown", [name for name in found if name not in expected]),
        ("has another shape or dtype for", differing),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{where} {problem} {', '.join(names[:3])}{more}; it belongs to another architecture")


def _alike(a: Tensor, b: Tensor | _Entry) -> bool:
    return tuple(a.shape) == tuple(b.shape) and a.dtype == b.dtype


def _own_memory(tensors: dict[str, Tensor]) -> None:
    """safetensors refuses two names for the same bytes (tied weights): the second gets a copy."""
    seen: set[int] = set()
    for name, value in tensors.items():
        assert value.numel(), f"{name} is empty"
        pointer = value.untyped_storage().data_ptr()
        if pointer in seen:
            tensors[name] = value.clone()
        seen.add(pointer)


def _open(path: Path) -> BinaryIO:
    try:
        return open(path, "rb", opener=lambda name, flags: os.open(name, flags | os.O_NONBLOCK))  # a FIFO would wait
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}; give a .safetensors file") from None


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, _Entry], dict[str, Any]]:
    def refuse(reason: str) -> NoReturn:
        raise UserError(f"{path} is no usable weights file: {reason}; fetch or train it again")

    def parse(text: bytes | str) -> Any:
        try:
            return json.loads(text, object_pairs_hook=unique, parse_constant=lambda name: refuse(f"{name} in JSON"))
        except (ValueError, RecursionError) as error:
            if isinstance(error, UserError):
                raise
            refuse("its header is not JSON")

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(mapping := dict(pairs)) != len(pairs):
            refuse("its header repeats a key")
        return mapping

    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        refuse("it is not a regular file")
    size = status.st_size
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        refuse(f"its header claims {length:,} bytes, more than {MAX_HEADER:,}")
    if size < 8 + length:
        refuse(f"it is cut short at {size:,} bytes")
    header = parse(file.read(length))
    if not isinstance(header, dict):
        refuse("its header is no mapping")
    metadata = header.pop("__metadata__", None)
    entries, end = {}, 8 + length
    for name, item in sorted(header.items(), key=lambda pair: _begin(pair[1])):
        entry = _entry(item, 8 + length)
        if entry is None or entry.begin != end:
            refuse(f"tensor {name!r} has a dtype, shape or byte range that does not fit")
        entries[name], end = entry, entry.end
    if end != size:
        refuse(f"its tensors take {end:,} bytes and the file has {size:,}")
    if not isinstance(metadata, dict) or not isinstance(metadata.get("vitrail"), str):
        refuse("Vitrail did not write it")
    meta = parse(metadata["vitrail"])
    if not isinstance(meta, dict) or meta.get("format") != "vitrail":
        refuse("Vitrail did not write it")
    if meta.get("version") != VERSION:
        raise UserError(f"{path} has format version {meta.get('version')!r}, not {VERSION}; upgrade vitrail")
    return entries, meta


def _begin(item: Any) -> int:
    offsets = item.get("data_offsets") if isinstance(item, dict) else None
    return offsets[0] if isinstance(offsets, list) and offsets and isinstance(offsets[0], int) else -1


def _entry(item: Any, base: int) -> _Entry | None:
    """The tensor's place, or None where dtype, shape and byte range contradict each other."""
    if not isinstance(item, dict) or set(item) != {"dtype", "shape", "data_offsets"}:
        return None
    shape, offsets, dtype = item["shape"], item["data_offsets"], item["dtype"]
    if not all(isinstance(v, list) and all(type(n) is int and n >= 0 for n in v) for v in (shape, offsets)):
        return None
    if not isinstance(dtype, str) or dtype not in DTYPES or len(offsets) != 2 or len(shape) > 8 or 0 in shape:
        return None
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        return None
    return _Entry(DTYPES[dtype], tuple(shape), base + offsets[0], base + offsets[1])


def _read_tensor(file: BinaryIO, entry: _Entry) -> Tensor:
    buffer = bytearray(entry.end - entry.begin)  # its own memory: aligned, and freed with its tensor
    file.seek(entry.begin)
    if file.readinto(buffer) != len(buffer):  # type: ignore[attr-defined]
        raise UserError(f"{file.name} changed while it was read; try again")
    if entry.dtype is torch.bool:  # any non-zero byte is true
        return torch.frombuffer(buffer, dtype=torch.uint8).ne(0).reshape(entry.shape)
    return torch.frombuffer(buffer, dtype=entry.dtype).reshape(entry.shape)
