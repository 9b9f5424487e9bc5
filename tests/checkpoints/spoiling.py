"""What every kind of hostile file is made with: a function that spoils a sound Hugging Face folder."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

CANARY = "pwned"
FIRST = "vit.embeddings.cls_token"
Spoil = Callable[[Path], Path | None]
"""Spoils the files of a folder; returns what to open, or None for the folder."""


class Call:
    """Unpickles as ``function(*arguments)``."""

    def __init__(self, function: Any, *arguments: Any) -> None:
        self.call = function, arguments

    def __reduce__(self) -> Any:
        return self.call


def weights(folder: Path) -> Path:
    return folder / "model.safetensors"


def fifo(name: str) -> Spoil:
    def spoil(folder: Path) -> Path:
        weights(folder).unlink()
        os.mkfifo(folder / name)
        return folder / name

    return spoil


def device(name: str) -> Spoil:
    def spoil(folder: Path) -> Path:
        weights(folder).unlink()
        (folder / name).symlink_to("/dev/zero")
        return folder / name

    return spoil
