"""Tracing and converting a model takes most of the time of a test that exports it: one program for equal models."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

PROGRAMS: dict[Any, Any] = {}
GRAPHS: dict[Any, Any] = {}
TRANSLATIONS: dict[Any, Any] = {}
SIMPLE = {"depth": 1, "positions": "none"}
"""Settings of the tiny predictor that most tests of files share: half as many operators as with positions, which a
graph resamples for the size of the images."""


def share(setattr: Callable[[Any, str, Any], None] = setattr) -> None:
    """Let what was traced and converted serve every model of the same weights and settings, in all formats."""
    from torch.onnx._internal.exporter._registration import ONNXRegistry

    from vitrail.engines import graph, onnx
    from vitrail.engines.fingerprint import cache_key, fingerprint
    from vitrail.engines.runtimes.onnxruntime import KEY

    trace, convert, collect = graph.trace, onnx.converted, ONNXRegistry.from_torchlib

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

    def collected(**options):
        """Of all operators, which the exporter collects for every graph, and adds the graph's own ones to."""
        key = tuple(options.items())
        if key not in TRANSLATIONS:
            TRANSLATIONS[key] = collect(**options)
        own = copy.copy(TRANSLATIONS[key])
        own.functions = {target: [*functions] for target, functions in own.functions.items()}
        return own

    setattr(graph, "trace", traced)
    setattr(onnx, "converted", converted)
    setattr(ONNXRegistry, "from_torchlib", staticmethod(collected))
