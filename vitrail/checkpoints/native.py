"""The native weights file: safetensors, with everything else that a model needs as JSON in its header.

``__metadata__["vitrail"]`` holds the meta as JSON::

    {"format": "vitrail", "version": 1, "task": ..., "config": {...}, "preprocess": {...},
     "metrics": {...}, "training": {...}}

``version`` is the format's. It rises when older releases of Vitrail cannot read a file;
files without one are of the first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from vitrail import files
from vitrail.checkpoints.containers import Entry, Tensors, fill, room, safetensors
from vitrail.config import to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.files import Json
from vitrail.version import __version__

VERSION = 1
NAME = "native"
"""Of the format, where dialects of other libraries have theirs."""


class Configured(Protocol):
    """A task or pretraining method, as far as a file describes it."""

    @property
    def name(self) -> str:
        """The registry name, or the dotted module of a third party's."""

    @property
    def config(self) -> object:
        """An instance of its module's ``Config``."""


def meta_of(
    task: Configured, preprocess: PreprocessConfig, metrics: Mapping[str, float] | None = None, **more: Json
) -> dict[str, Any]:
    """What a file declares of the model in it, the same for weights files and exported graphs.

    Args:
        metrics: what the weights are known to reach.
        more: further entries, such as ``training``.
    """
    return {
        "task": task.name,
        "config": to_dict(task.config),
        "preprocess": to_dict(preprocess),
        "metrics": dict(metrics or {}),
        **more,
    }


@dataclass(frozen=True)
class Checkpoint:
    """A file's content: tensors by name on the CPU, and the meta."""

    state: dict[str, Tensor]
    meta: dict[str, Any]


@dataclass(frozen=True)
class Native:
    """An open native file and its meta, before a tensor is read."""

    tensors: Tensors
    meta: dict[str, Any]

    def require(self, like: Mapping[str, Tensor]) -> None:
        """Compare with what the file must hold.

        Raises:
            UserError: a tensor is missing, unknown, or of another shape or dtype.
        """
        _require_alike(like, self.tensors.entries, where=self.tensors.path)

    def load(self) -> dict[str, Tensor]:
        """The tensors by name, on the CPU.

        Raises:
            UserError: the file cannot be read to the end, or holds NaN or infinity.
        """
        state = room(self.tensors.entries)
        fill(state, self.tensors)
        return state


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
    safetensors.write(path, state, {"vitrail": text})


def load(path: str | Path) -> Checkpoint:
    """Read a file that :func:`save` wrote.

    Raises:
        UserError: absent, damaged, hostile, or not native.
    """
    with safetensors.open_tensors(Path(path)) as file:
        found = Native(file, _meta(file))
        return Checkpoint(found.load(), found.meta)


def find(tensors: Tensors) -> Native | None:
    """An open file with its meta, or None if it is not native; no tensor is read. Errors as in :func:`load`."""
    return Native(tensors, _meta(tensors)) if "vitrail" in tensors.metadata else None


def read_meta(path: str | Path) -> dict[str, Any]:
    """The meta alone; no tensor is read. Errors as in :func:`load`."""
    with safetensors.open_tensors(Path(path)) as file:
        return _meta(file)


def load_into(module: nn.Module, state: dict[str, Tensor], *, where: str | Path) -> None:
    """Give ``module`` (on any device, ``meta`` too) the tensors of ``state``; names, shapes and dtypes must agree.

    Raises:
        UserError: they do not; ``where`` (a file name) is repeated.
    """
    _require_alike(module.state_dict(), state, where=where)
    module.load_state_dict(state, assign=True)


def require_known_version(meta: Mapping[str, object], newest: int, path: Path) -> None:
    """Can this release read a file of the format version that its meta declares? None is the first.

    Args:
        newest: the version that this release writes.

    Raises:
        UserError: the file is of a newer version, or declares none that can be.
    """
    version = meta.get("version", 1)
    if type(version) is not int or version < 1:
        raise UserError(f"{path} declares no valid format version ({version!r}); fetch or write it again")
    if version > newest:
        raise UserError(
            f"{path} has format version {version}, and Vitrail {__version__} reads up to {newest}; "
            "upgrade vitrail: pip install --upgrade vitrail"
        )


def _require_alike(expected: Mapping[str, Tensor], found: Mapping[str, Tensor | Entry], *, where: str | Path) -> None:
    differing = [n for n in expected if n in found and not _alike(expected[n], found[n])]
    for problem, names in (
        ("lacks", [name for name in expected if name not in found]),
        ("has the unknown", [name for name in found if name not in expected]),
        ("has another shape or dtype for", differing),
    ):
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            raise UserError(f"{where} {problem} {', '.join(names[:3])}{more}; it belongs to another architecture")


def _alike(a: Tensor, b: Tensor | Entry) -> bool:
    return tuple(a.shape) == tuple(b.shape) and a.dtype == b.dtype


def _meta(file: Tensors) -> dict[str, Any]:
    refuse = safetensors.refusal(file.path)
    if "vitrail" not in file.metadata:
        refuse("Vitrail did not write it")
    meta = safetensors.strict_json(file.metadata["vitrail"], refuse)
    if not isinstance(meta, dict) or meta.get("format") != "vitrail":
        refuse("Vitrail did not write it")
    assert isinstance(meta, dict)
    require_known_version(meta, VERSION, file.path)
    return meta
