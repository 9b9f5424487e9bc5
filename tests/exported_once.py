"""Tracing and converting a model takes most of the time of a test that exports it: one program for equal models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROGRAMS: dict[Any, Any] = {}
GRAPHS: dict[Any, Any] = {}


def share(setattr: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let what was traced and converted serve every model of the same weights and settings, in all formats."""
    from vitrail.engines import _files, _onnx
    from vitrail.engines._start import _fingerprint
    from vitrail.engines.onnxruntime import KEY
    from vitrail.vit import ViT

    trace, convert = _files.trace, _onnx.converted

    def traced(task, preprocess):
        # The fingerprint does not tell what became of a backbone's layers: such a task equals itself alone.
        key = type(task), None if type(task.vit) is ViT else task, _fingerprint(task, preprocess)
        if key not in PROGRAMS:
            PROGRAMS[key] = trace(task, preprocess)
        return PROGRAMS[key]

    def converted(program):
        if program not in GRAPHS:
            GRAPHS[program] = convert(program)
        GRAPHS[program].model.metadata_props.pop(KEY, None)  # of the last file
        return GRAPHS[program]

    setattr(_files, "trace", traced)
    setattr(_onnx, "converted", converted)
