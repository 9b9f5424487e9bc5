"""Files of ``torch.save``: pickles, which can run code. A child process of bounded means makes safetensors of them.

Both the zip format and the one before torch 1.6 are read. The child runs
:mod:`vitrail.checkpoints.unpickle`.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import weakref
from dataclasses import dataclass
from pathlib import Path

from vitrail.checkpoints.containers import safetensors
from vitrail.errors import UserError

SUFFIXES = (".pt", ".pth", ".bin", ".ckpt", ".pth.tar", ".pt.tar", ".pkl", ".pickle")
REASON = "reason.txt"  # the child's reason before it exits
STATE = "state"  # in the metadata of what the child wrote: which of several states of a training it is
MAX_REASON = 400
SECONDS = 120  # of waiting for the child, in addition to the time that the file's size takes
SLOWEST = 20_000_000  # bytes/s


class Converted:
    """The safetensors file made of a pickle, in a folder that no other user can open; it goes with its last holder."""

    def __init__(self, source: Path) -> None:
        folder = tempfile.mkdtemp(prefix="vitrail-")  # mode 0700
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.file = Path(folder) / "tensors.safetensors"
        try:
            _convert(source, self.file)
        except BaseException:
            self._remove()
            raise


@dataclass
class Pickle(safetensors.SafeTensors):
    """Tensors of a pickle, and the file made of it."""

    converted: Converted | None = None


def begins(head: bytes) -> bool:
    """Whether a file that begins so is one: a pickle of protocol 2 to 5, or a zip with torch's members."""
    length = int.from_bytes(head[26:28], "little")
    member = head[30 : 30 + length]
    torch_zip = head[:4] == b"PK\x03\x04" and member.endswith((b"/data.pkl", b"/.format_version", b"/byteorder"))
    return torch_zip or (head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"))


def open_tensors(path: Path) -> Pickle:
    """Convert a file in a child process and open the result.

    Raises:
        UserError: absent, damaged or hostile.
    """
    _require_regular(path)
    converted = Converted(path)
    try:
        opened = safetensors.open_tensors(converted.file)
    except UserError as error:
        raise UserError(str(error).replace(str(converted.file), str(path))) from None
    return Pickle(path, opened.entries, opened.metadata, opened.file, converted)


def _require_regular(path: Path) -> None:
    try:
        status = path.stat()
    except OSError as error:
        raise UserError(f"cannot read the weights {path}: {error.strerror}; give a file of torch.save") from None
    if not stat.S_ISREG(status.st_mode):
        safetensors.refusal(path)("it is not a regular file")


def _convert(source: Path, out: Path) -> None:
    refuse = safetensors.refusal(source)
    places = [str(Path(__file__).parents[3]), *(place for place in sys.path if place)]
    program = (
        f"import sys; sys.path[:] = {places!r}\n"
        "from vitrail.checkpoints import unpickle\n"
        "unpickle.main(sys.argv[1], sys.argv[2])"
    )
    keep = {name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH") if name in os.environ}
    alone = {"OMP_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1", "CUDA_VISIBLE_DEVICES": "", "TMPDIR": str(out.parent)}
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-c", program, str(source.resolve()), str(out)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=keep | alone,
            cwd=out.parent,
            timeout=SECONDS + source.stat().st_size / SLOWEST,
        )
    except subprocess.TimeoutExpired:
        refuse("reading it does not end")
    if done.returncode == 0 and out.is_file():
        return
    if done.returncode < 0:
        refuse(f"the process that read it was ended ({signal.Signals(-done.returncode).name})")
    try:
        reason = json.loads((out.parent / REASON).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        reason = f"the process that read it left with code {done.returncode}"
    refuse(str(reason)[:MAX_REASON])
