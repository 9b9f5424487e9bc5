"""safetensors (https://github.com/huggingface/safetensors#format): 8 bytes of header length, a JSON header that gives
each tensor's dtype, shape and byte range, then the bytes.
"""

from __future__ import annotations

import errno
import io
import json
import math
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from vitrail import files
from vitrail.checkpoints.containers import Entry, Tensors
from vitrail.errors import UserError

SUFFIXES = (".safetensors",)
MAX_EMPTY = 65_536  # length of an axis next to one of length 0
MAX_HEADER = 1_000_000  # bytes; a ViT-g has 60 kB
DTYPES = {
    "F64": torch.float64, "F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "I64": torch.int64,
    "I32": torch.int32, "I16": torch.int16, "I8": torch.int8, "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip


@dataclass(frozen=True)
class Place(Entry):
    """A tensor and its bytes."""

    begin: int  # from the start of the file
    end: int


class _Held(io.FileIO):
    """Open as long as it is referenced; no warning if it was not closed."""

    def __del__(self) -> None:
        self.close()


@dataclass
class SafeTensors(Tensors):
    """An open safetensors file whose header was checked."""

    file: io.FileIO | None = None

    def read(self, name: str, out: Tensor | None = None) -> Tensor:
        assert self.file is not None
        place = self.entries[name]
        assert isinstance(place, Place)
        value = torch.empty(place.shape, dtype=place.dtype) if out is None else out
        assert (value.numel(), value.dtype) == (math.prod(place.shape), place.dtype), name
        data, begin = bytes_of(value), place.begin
        while data:  # one call reads 2 GB at most
            if not (count := files.read_at(self.file.fileno(), data, begin)):
                raise UserError(f"{self.path} changed while it was read; try again")
            data, begin = data[count:], begin + count
        if place.dtype is torch.bool:  # any non-zero byte is true
            value.copy_(value.view(torch.uint8).ne(0))
        return value

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def begins(head: bytes) -> bool:
    """Whether a file that begins so is one: the length of a header, and its brace."""
    return head[8:9] == b"{" and 2 <= int.from_bytes(head[:8], "little") <= MAX_HEADER


def open_tensors(path: Path) -> SafeTensors:
    """Open a file and check its header.

    Raises:
        UserError: absent, damaged or hostile.
    """
    try:
        file = _Held(path, opener=files.no_wait)
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}; give a .safetensors file") from None
    try:
        entries, metadata = _read_header(file, path)
    except BaseException:
        file.close()
        raise
    return SafeTensors(path, dict(entries), metadata, file)


def write(path: Path, state: dict[str, Tensor], metadata: dict[str, str]) -> None:
    """Write tensors, not atomically: for a place that is.

    Raises:
        OSError: the disk is full or failing.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    _own_memory(tensors)
    try:
        save_file(tensors, path, metadata)
    except SafetensorError as error:
        raise OSError(errno.EIO, str(error)) from error


def bytes_of(value: Tensor) -> memoryview:
    """The memory of a contiguous tensor, to write into."""
    return memoryview(value.view(-1).view(torch.uint8).numpy())  # type: ignore[arg-type]


def strict_json(text: bytes | str, refuse: Callable[[str], NoReturn]) -> object:
    """JSON without repeated keys, NaN or endless nesting; ``refuse(reason)`` raises."""

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(mapping := dict(pairs)) != len(pairs):
            refuse("its JSON repeats a key")
        return mapping

    try:
        return json.loads(text, object_pairs_hook=unique, parse_constant=lambda name: refuse(f"{name} in JSON"))
    except (ValueError, RecursionError) as error:
        if isinstance(error, UserError):
            raise
        return refuse("its text is not JSON")


def refusal(path: Path) -> Callable[[str], NoReturn]:
    """``refuse(reason)`` for this file."""

    def refuse(reason: str) -> NoReturn:
        raise UserError(f"{path} is no usable weights file: {reason}; fetch or train it again")

    return refuse


def _own_memory(tensors: dict[str, Tensor]) -> None:
    """safetensors refuses two names for the same bytes (tied weights): the second gets a copy."""
    seen: set[int] = set()
    for name, value in tensors.items():
        pointer = value.untyped_storage().data_ptr()
        if pointer in seen and value.numel():
            tensors[name] = value.clone()
        seen.add(pointer)


def _read_header(file: io.FileIO, path: Path) -> tuple[dict[str, Place], dict[str, str]]:
    refuse = refusal(path)
    status = os.fstat(file.fileno())
    if not stat.S_ISREG(status.st_mode):
        refuse("it is not a regular file")
    size = status.st_size
    length = int.from_bytes(file.read(8), "little")
    if length > MAX_HEADER:
        refuse(f"its header claims {length:,} bytes, more than {MAX_HEADER:,}")
    if size < 8 + length:
        refuse(f"it is cut short at {size:,} bytes")
    header = strict_json(file.read(length), refuse)
    if not isinstance(header, dict):
        refuse("its header is no mapping")
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not all(isinstance(value, str) for value in metadata.values()):
        refuse("its metadata is not texts")
    places, end = {}, 8 + length
    for name, item in sorted(header.items(), key=lambda pair: _offsets(pair[1])):
        place = _place(item, 8 + length)
        if place is None or place.begin != end:
            refuse(f"tensor {name!r} has a dtype, shape or byte range that does not fit")
        assert place is not None
        places[name], end = place, place.end
    if end != size:
        refuse(f"its tensors take {end:,} bytes and the file has {size:,}")
    return places, metadata


def _offsets(item: Any) -> list[int]:
    offsets = item.get("data_offsets") if isinstance(item, dict) else None
    return offsets if isinstance(offsets, list) and all(isinstance(offset, int) for offset in offsets) else []


def _place(item: Any, base: int) -> Place | None:
    """The tensor's place, or None where dtype, shape and byte range contradict each other."""
    if not isinstance(item, dict) or set(item) != {"dtype", "shape", "data_offsets"}:
        return None
    shape, offsets, dtype = item["shape"], item["data_offsets"], item["dtype"]
    if not all(isinstance(v, list) and all(type(n) is int and n >= 0 for n in v) for v in (shape, offsets)):
        return None
    if not isinstance(dtype, str) or dtype not in DTYPES or len(offsets) != 2 or len(shape) > 8:
        return None
    if 0 in shape and max(shape) > MAX_EMPTY:
        return None
    if offsets[1] - offsets[0] != math.prod(shape) * DTYPES[dtype].itemsize:
        return None
    return Place(DTYPES[dtype], tuple(shape), base + offsets[0], base + offsets[1])
