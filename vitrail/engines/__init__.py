"""Inference engines: what computes the outputs of a trained task.

``runtimes/`` holds one runtime a file. Its module defines ``RUNTIME``, which is

- an :class:`InProcess`, where the task itself, or a copy of it, runs on its device; or
- a :class:`FileFormat`, where a file holds the task as a graph.

A third party's module is loaded by its dotted name. A runtime whose library is not installed raises a
:class:`UserError` with the pip command.

- ``program``: tracing a task into a graph; ``onnx``: the graph as an ONNX model;
- ``graph``: writing and opening files that hold a graph;
- ``choose``: the engine for a task in memory, and the fastest one; ``cache``: what is kept for the next time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeAlias

from torch import Tensor

from vitrail import registry
from vitrail.errors import UserError, did_you_mean
from vitrail.trainable import EMBEDDING, OUTPUTS, Embedder

if TYPE_CHECKING:
    from vitrail.engines.program import Program

INPUT = "images"
"""The name of a graph's input, float32 (B, C, H, W)."""
DEFAULT_OUTPUTS = (OUTPUTS, EMBEDDING)
"""The outputs of a graph that does not name them, in this order."""
PACKAGE = "engines.runtimes"
Meta: TypeAlias = Mapping[str, object]
"""What a file declares of its graph, as JSON."""


class Engine(Protocol):
    """What a task computes at prediction time, in any runtime."""

    def __call__(self, images: Tensor, *padding: Tensor) -> Tensor:
        """Images float32 (B, C, H, W) → raw outputs, as ``Embedder.forward``. Spatial models may be given which
        pixels are padding, bool (B, H, W), except in a graph."""

    def embed(self, images: Tensor) -> Tensor:
        """Images float32 (B, C, H, W) → feature vectors (B, D), as ``Embedder.embed``."""


@dataclass(frozen=True)
class Opened:
    """A file opened in a runtime.

    Attributes:
        meta: what was given to :attr:`FileFormat.write`.
        run: images float32 (B, C, H, W) on the CPU, contiguous, and the name of an output → that output.
    """

    meta: Meta
    run: Callable[[Tensor, str], Tensor]


@dataclass(frozen=True, kw_only=True)
class InProcess:
    """A runtime that executes the task in this process.

    Attributes:
        precisions: ``fp32``, ``bf16``, ``fp16``, those that it has.
        prepare: (task, precision) → the engine, on the device of the task.
    """

    precisions: tuple[str, ...]
    prepare: Callable[[Embedder, str], Engine]


@dataclass(frozen=True, kw_only=True)
class FileFormat:
    """A runtime that executes files on the CPU.

    Attributes:
        format: its name for ``vitrail export --to``.
        suffix: of the files; parts of a file lie next to it and share its stem.
        precisions: as of :class:`InProcess`.
        write: (program, path, meta): write the file; ``path`` ends with the suffix.
        read: (path, precision) → the opened file. Raises :func:`not_ours` for a file that it cannot open.
        pickled: opening a file can run code that is in it.
    """

    format: str
    suffix: str
    precisions: tuple[str, ...]
    write: Callable[[Program, Path, Meta], None]
    read: Callable[[Path, str], Opened]
    pickled: bool = False


Runtime: TypeAlias = InProcess | FileFormat


def names() -> list[str]:
    """The names of the runtimes that come with Vitrail."""
    return registry.names(PACKAGE)


def load(name: str, precision: str = "fp32") -> Runtime:
    """The runtime ``name``.

    Raises:
        UserError: no such engine, or it does not have the precision.
    """
    if "." not in name and name not in names():
        raise UserError(f"unknown engine {name!r}; {did_you_mean(name, names())}")
    runtime: object = vars(registry.load(PACKAGE, name)).get("RUNTIME")
    if not isinstance(runtime, InProcess | FileFormat):
        raise UserError(f"the module {name!r} is no engine; it must define RUNTIME (see vitrail.engines)")
    if precision not in runtime.precisions:
        raise UserError(
            f"the engine {name!r} has no precision {precision!r}; {did_you_mean(precision, runtime.precisions)}"
        )
    return runtime


def load_format(name: str, precision: str = "fp32") -> FileFormat:
    """The runtime ``name``, which must have a file format. Raises as :func:`load`."""
    runtime = load(name, precision)
    if not isinstance(runtime, FileFormat):
        raise UserError(f"the engine {name!r} has no files; choose one of {', '.join(with_files())}")
    return runtime


def with_files() -> dict[str, FileFormat]:
    """Our runtimes that have a file format."""
    found = {name: load(name) for name in names()}
    return {name: runtime for name, runtime in found.items() if isinstance(runtime, FileFormat)}


def of_file(path: str | Path, engine: str | None = None) -> str | None:
    """The name of the runtime whose files end as ``path`` does, or None.

    Args:
        engine: a third party's runtime to consider too; any other name is ignored.
    """
    formats = with_files()
    if engine is not None and "." in engine and isinstance(theirs := load(engine), FileFormat):
        formats[engine] = theirs
    suffix = Path(path).suffix
    return next((name for name, runtime in formats.items() if suffix == runtime.suffix), None)


def not_ours(path: Path, reason: str) -> UserError:
    """For a file that a runtime cannot open."""
    return UserError(f"{path} {reason}; write it again with `vitrail export`")


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = registry.submodules(__name__)
