"""The child process that turns a file of ``torch.save`` into safetensors.

Its environment holds no secrets, and it may start no process, open no connection, and take no more memory, time and
disk than the file's size justifies (on Windows, which has no such limits, no more time than its parent waits).
``torch.load(weights_only=True)`` refuses whatever is no tensor, number, text or collection of them. Options and
counters that trainings save beside their weights (:mod:`vitrail.checkpoints.inert`) pass as objects that do nothing.

Of a training's checkpoint one state is taken (:mod:`vitrail.checkpoints.states`). What is no tensor is dropped.
"""

from __future__ import annotations

import json
import pickle
import re
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

import torch
from torch import Tensor

if sys.platform != "win32":
    import resource

from vitrail.checkpoints import inert, states
from vitrail.checkpoints.containers import safetensors
from vitrail.checkpoints.containers.pickle import REASON, STATE

FORBIDDEN = ("socket.", "subprocess.", "os.system", "os.exec", "os.fork", "os.posix_spawn", "os.spawn", "ctypes.")
MEMORY = 64 * 2**20  # bytes in addition to the file's own, mapped once and copied twice
CPU_SECONDS, CPU_SPEED = 30, 20_000_000  # and bytes/s
TOO_MUCH = "it requests more memory than its size justifies"


class Refused(Exception):
    """The reason, for a message."""


def main(source: str, out: str) -> NoReturn:
    """Convert ``source``; leaves with 0, or with 1 and the reason in a file beside ``out``."""
    reason = None
    try:
        torch.set_num_threads(1)
        size = Path(source).stat().st_size
        _fence(size)
        tensors, taken = _tensors(Path(source), size)
        safetensors.write(Path(out), tensors, {STATE: taken} if taken else {})
    except MemoryError:
        reason = TOO_MUCH
    except Exception as error:
        reason = _reason(error)
    if reason is not None:  # outside the handlers: what filled the memory is gone by now
        Path(out).unlink(missing_ok=True)
        (Path(out).parent / REASON).write_text(json.dumps(reason), encoding="utf-8")
    sys.exit(0 if reason is None else 1)


def _fence(size: int) -> None:
    """Limit this process, for good."""

    def audit(event: str, arguments: object) -> None:
        if event.startswith(FORBIDDEN):
            raise Refused(f"it makes its reader do {event}")

    sys.addaudithook(audit)
    if sys.platform != "win32":
        used = resource.getrusage(resource.RUSAGE_SELF)
        seconds = int(used.ru_utime + used.ru_stime + CPU_SECONDS + size / CPU_SPEED)
        limits = {
            resource.RLIMIT_CPU: seconds,
            resource.RLIMIT_FSIZE: size + safetensors.MAX_HEADER,
            resource.RLIMIT_CORE: 0,
        }
        if (statm := Path("/proc/self/statm")).exists():  # elsewhere the system does not hold to such a limit
            mapped = int(statm.read_text().split()[0]) * resource.getpagesize()
            limits[resource.RLIMIT_AS] = mapped + 3 * size + MEMORY
        for kind, limit in limits.items():
            _, hard = resource.getrlimit(kind)
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(kind, (limit, limit))


def _tensors(path: Path, size: int) -> tuple[dict[str, Tensor], str]:
    """The weights by name, and where in the file they stood beside others."""
    with open(path, "rb") as file:
        zipped = file.read(4) == b"PK\x03\x04"
    if zipped:
        _check_zip(path, size)
    with torch.serialization.safe_globals(inert.stand_ins()):
        content = torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    if not isinstance(content, Mapping):
        raise Refused("it holds no tensors by name")
    found, taken = states.chosen(content)
    state = {name: value for name, value in found.items() if isinstance(value, Tensor)}
    if not state:
        raise Refused("it holds no tensors by name")
    for name, value in state.items():
        if type(value) not in (Tensor, torch.nn.Parameter) or value.layout is not torch.strided or not value.is_cpu:
            raise Refused(f"{name!r} is no plain tensor")
        if value.dtype not in safetensors.DTYPES.values() or (
            not value.numel() and max(value.shape) > safetensors.MAX_EMPTY
        ):
            raise Refused(f"{name!r} is of {value.dtype}, or empty and endless")
        if value.nbytes > value.untyped_storage().nbytes():
            raise Refused(f"{name!r} claims {value.nbytes:,} bytes and has {value.untyped_storage().nbytes():,}")
    if (total := sum(value.nbytes for value in state.values())) > size:
        raise Refused(f"its tensors claim {total:,} bytes and the file has {size:,}")
    return state, taken


def _check_zip(path: Path, size: int) -> None:
    """torch maps the members as they lie in the file and compares no checksum: we do."""
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if any(member.filename.endswith("/constants.pkl") for member in members):
            raise Refused(
                "it is a TorchScript program, not its tensors: open it with torch.jit and save its state_dict"
            )
        if any(member.compress_type != zipfile.ZIP_STORED for member in members):
            raise Refused("it was packed again by another program")
        if sum(member.file_size for member in members) > size:
            raise Refused("it claims to hold more than its size")
        for member in members:
            if member.CRC:  # 0 where torch was configured to leave it out
                with archive.open(member) as part:
                    while part.read(2**20):
                        pass


def _reason(error: Exception) -> str:
    """One line; torch's own messages advise to load the file unsafely."""
    text = str(error)
    if isinstance(error, Refused):
        return text
    if "allocate memory" in text or "mmap" in text:
        return TOO_MUCH
    if isinstance(error, zipfile.BadZipFile):
        return f"it is damaged ({text})"
    if found := re.search(r"GLOBAL (\S+)", text):
        return f"it asks for {found[1]}, which is no tensor and could run code"
    if "TorchScript" in text or ".tar format" in text:
        return "it is a TorchScript program or of torch's oldest format; save its state_dict with today's torch"
    if re.search(
        r"Unsupported operand (140|149|150)\b|pickle protocol [345]", text
    ):  # SHORT_BINUNICODE, FRAME, BINBYTES8
        return "it is a pickle of protocol 3 or later; save it again with torch.save, without pickle_protocol"
    if isinstance(error, pickle.UnpicklingError):
        text = text.split("WeightsUnpickler error:")[-1].split("Check the documentation")[0]
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return f"it cannot be unpickled ({lines[0] if lines else type(error).__name__})"
