"""PyTorch's own exported programs, ``.pt2``: the graph without the Python code that made it.

PyTorch unpickles parts of such a file, so that one from elsewhere can run code: it opens only with ``--allow-pickle``.
"""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail import files
from vitrail.engines import FileFormat, Meta, Opened, not_ours
from vitrail.engines.program import Program, output_names

KEY = "vitrail.json"  # among the archive's extra files


def is_ours(path: Path) -> bool:
    """Is there meta of ours in the archive? Nothing in it is unpickled."""
    try:
        with zipfile.ZipFile(path) as archive:
            return any(name.endswith(f"/extra/{KEY}") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def write(program: Program, path: Path, meta: Meta) -> None:
    """Write the archive with our meta as an extra file."""
    with files.enduring(path) as file:
        torch.export.save(program.graph, file, extra_files={KEY: json.dumps(meta, allow_nan=False)})


def read(path: Path, precision: str) -> Opened:
    """The program on the CPU.

    Raises:
        UserError: the file is not ours.
    """
    extra = {KEY: ""}
    try:
        graph: Any = torch.export.load(path, extra_files=extra).module()
        meta = json.loads(extra[KEY] or "null")
    except Exception as error:  # anything that a damaged archive can lead to
        raise not_ours(path, f"is no program that opens ({(str(error).splitlines() or [''])[0][:200]})") from None
    if meta is None:
        raise not_ours(path, "does not declare what its outputs mean, so Vitrail cannot use it")

    def run(images: Tensor, output: str) -> Tensor:
        found: Tensor = dict(zip(output_names(meta), graph(images), strict=True))[output]
        return found

    return Opened(meta, run)


RUNTIME = FileFormat(
    format="pt2",
    suffix=".pt2",
    precisions=("fp32",),  # the graph checks the dtypes it was traced with
    write=write,
    read=read,
    pickled=True,
)
