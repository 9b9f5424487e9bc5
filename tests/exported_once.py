"""Tracing and converting a model takes most of the time of a test that exports it: one program for equal models."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

PROGRAMS: dict[Any, Any] = {}
GRAPHS: dict[Any, Any] = {}


def share(setattr: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let what was traced and converted serve every model of the same weights and settings, in all formats."""
    from vitrail.engines import graph, onnx
    from vitrail.engines.fingerprint import cache_key, fingerprint
    from vitrail.engines.runtimes.onnxruntime import KEY

    trace, convert = graph.trace, onnx.converted

    def traced(task, preprocess):
        # A task without a key, such as one whose layers merge tokens, equals itself alone.
        key = cache_key(task, fingerprint(task, preprocess)) or task
        if key not in PROGRAMS:
            PROGRAMS[key] = trace(task, preprocess)
        return PROGRAMS[key]

    def converted(program):
        if program not in GRAPHS:
            GRAPHS[program] = convert(program)
        GRAPHS[program].model.metadata_props.pop(KEY, None)  # of the last file
        return GRAPHS[program]

    setattr(graph, "trace", traced)
    setattr(onnx, "converted", converted)
