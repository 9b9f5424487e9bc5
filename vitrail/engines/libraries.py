"""The libraries that only some runtimes need, imported without their telemetry."""

from __future__ import annotations

import importlib
import os
import sys
from functools import lru_cache
from types import ModuleType
from typing import TYPE_CHECKING, cast

from vitrail.errors import UserError

if TYPE_CHECKING:
    from openvino import Core

OPENVINO_PRECISIONS = {"fp32": "f32", "bf16": "bf16"}
"""OpenVINO's ``INFERENCE_PRECISION_HINT`` by our names."""


def library(name: str, extra: str) -> ModuleType:
    """A library that only some runtimes need.

    Raises:
        UserError: it is not installed.
    """
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        raise UserError(f"this engine needs {name}; run: pip install 'vitrail[{extra}]'") from None


def onnxruntime() -> ModuleType:
    """ONNX Runtime without its telemetry, which its import would start, with files in the home folder.

    Raises:
        UserError: the library is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return library("onnxruntime", "onnx")


def openvino() -> ModuleType:
    """OpenVINO without its telemetry, which would report the import to its vendor and write into the home folder.

    Where that package cannot be imported, the library uses its own stub; so here for the entire process, unless
    the program has imported it by itself.

    Raises:
        UserError: the library is not installed.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
    return library("openvino", "openvino")


def openvino_core() -> Core:
    """OpenVINO's ``Core``, one for the entire process.

    A core that compiles keeps a stack for signals while it lives. Of two, of which the older is freed first, the
    younger leaves the freed stack of the other behind, and the next signal kills the process (OpenVINO 2026.4).

    Raises:
        UserError: the library is not installed.
    """
    return _core(openvino())


@lru_cache(1)
def _core(openvino: ModuleType) -> Core:
    return cast("Core", openvino.Core())
