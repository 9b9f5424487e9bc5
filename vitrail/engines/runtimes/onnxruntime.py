"""ONNX Runtime: ``.onnx`` files, which most other programs read too."""

from __future__ import annotations

import contextlib
import json
import sys
from pathlib import Path

import torch
from torch import Tensor

from vitrail.engines import INPUT, FileFormat, Meta, Opened, libraries, not_ours, onnx
from vitrail.engines.program import Program

KEY = "vitrail"  # in the file's metadata_props
ERRORS_ONLY = 3


def write(program: Program, path: Path, meta: Meta) -> None:
    """Write the graph with our meta among its properties."""
    onnx.write(program, path, {KEY: json.dumps(meta, allow_nan=False)})


def read(path: Path, precision: str) -> Opened:
    """The file in a session on the CPU, with as many threads as PyTorch has.

    Raises:
        UserError: the library is not installed, or the file is not ours.
    """
    runtime = libraries.onnxruntime()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.log_severity_level = ERRORS_ONLY
    try:
        with contextlib.redirect_stdout(sys.stderr):  # it prints what it tries after a failure, where results belong
            session = runtime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
        session.disable_fallback()
        meta = json.loads(session.get_modelmeta().custom_metadata_map[KEY])
    except KeyError:
        raise not_ours(path, "does not declare what its outputs mean, so Vitrail cannot use it") from None
    except Exception as error:  # the runtime's own classes are not public
        raise not_ours(path, f"is no ONNX file that opens ({str(error).splitlines()[0][:200]})") from None

    def run(images: Tensor, output: str) -> Tensor:
        (found,) = session.run([output], {INPUT: images.numpy()})
        return torch.from_numpy(found)

    return Opened(meta, run)


RUNTIME = FileFormat(format="onnx", suffix=".onnx", precisions=("fp32",), write=write, read=read)
