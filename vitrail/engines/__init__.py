"""What runs a model: one engine a file, found by its name.

An engine's module holds ``PRECISIONS`` and either

- ``prepare(task, precision) -> Engine``, where the task itself is run, on its device; or
- ``FORMAT`` and ``SUFFIX``, ``write(program, path, meta)`` and ``read(path, precision) -> Opened``, where a file holds
  the model as a graph. ``path`` ends with the suffix, and files beside it may share its stem. The graph takes
  ``images`` float32 (B, C, H, W) on the CPU and gives ``OUTPUTS``, and the file says by ``meta`` what they are.
  ``PICKLED``: opening such a file can run code.

An engine that lacks its library raises a :class:`UserError` that names the pip command.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from torch import Tensor

from vitrail import registry
from vitrail.console import printable
from vitrail.errors import UserError, did_you_mean

OUTPUTS = ("outputs", "embedding")
"""Of a graph: what ``Task.forward`` gives, and what ``Task.embed`` does."""
Run = Callable[[Tensor, str], Tensor]


class Engine(Protocol):
    """What a task does at prediction time, by whatever means."""

    def __call__(self, images: Tensor, *padding: Tensor) -> Tensor:
        """Images float32 (B, C, H, W) → raw outputs, as ``Task.forward``. What says where things are may be given which
        pixels are padding, bool (B, H, W), except in a graph."""

    def embed(self, images: Tensor) -> Tensor:
        """Images float32 (B, C, H, W) → feature vectors (B, D), as ``Task.embed``."""


@dataclass(frozen=True)
class Opened:
    """A file in an engine: what it says of itself, and its graph: ``run(images, output)``, one of ``OUTPUTS``."""

    meta: dict[str, Any]
    run: Run


def load(name: str, precision: str = "fp32") -> ModuleType:
    """The module of the engine ``name``.

    Raises:
        UserError: no such engine, or one that does not have the precision.
    """
    module = registry.load("engines", name)
    if precision not in module.PRECISIONS:
        raise UserError(
            f"the engine {name!r} has no precision {precision!r}; {did_you_mean(precision, module.PRECISIONS)}"
        )
    return module


def with_files() -> dict[str, ModuleType]:
    """The engines that have a file format."""
    modules = {name: registry.load("engines", name) for name in registry.names("engines")}
    return {name: module for name, module in modules.items() if hasattr(module, "SUFFIX")}


def of_file(path: str | Path) -> str | None:
    """The engine whose files are called so, or None."""
    suffix = Path(path).suffix
    return next((name for name, module in with_files().items() if suffix == module.SUFFIX), None)


def library(name: str, extra: str) -> Any:
    """A library that only some engines need.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(f"this engine needs {name}; run: pip install 'vitrail[{extra}]'") from None


def not_ours(path: Path, reason: str) -> UserError:
    """For a file that an engine cannot open."""
    return UserError(f"{printable(str(path))} {reason}; write it again with `vitrail export`")
