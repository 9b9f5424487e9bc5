"""OpenVINO: an ``.xml`` file with its weights in the ``.bin`` file next to it.

The runtime reads ONNX by itself, so ``openvino.convert_model`` is not needed.
"""

from __future__ import annotations

import json
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail.engines import FileFormat, Meta, Opened, libraries, not_ours, onnx
from vitrail.engines.program import Program, output_names

KEY = ["vitrail"]  # in the file's rt_info
SIZES = 8  # of images, whose compiled graphs are kept
STREAMS = 2  # parts of a batch in parallel: while one is bound by memory, another computes


def write(program: Program, path: Path, meta: Meta) -> None:
    """Write the graph, in full precision, with our meta as runtime information."""
    openvino = libraries.openvino()
    converted = path.with_suffix(".onnx")
    try:
        onnx.write(program, converted, {})
        model = libraries.openvino_core().read_model(converted)
        model.set_rt_info(json.dumps(meta, allow_nan=False), KEY)
        openvino.save_model(model, path, compress_to_fp16=False)
    finally:
        converted.unlink(missing_ok=True)


def read(path: Path, precision: str) -> Opened:
    """The file compiled for the CPU, once for every image size, with as many threads as PyTorch has.

    Raises:
        UserError: the library is not installed, or the file is not ours.
    """
    runtime = libraries.openvino_core()
    try:
        model = runtime.read_model(path)
        meta = json.loads(model.get_rt_info(KEY).astype(str))
    except Exception as error:  # of a file without our key, too
        reason = (str(error).strip().splitlines() or [""])[-1][:200]
        raise not_ours(path, f"is no OpenVINO file of Vitrail's that opens ({reason})") from None
    names = set(output_names(meta))
    settings = {
        "INFERENCE_PRECISION_HINT": libraries.OPENVINO_PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "PERFORMANCE_HINT": "LATENCY",
    }

    @lru_cache(2 * SIZES)
    def requests(output: str, streams: int, channels: int, height: int, width: int) -> list[Any]:
        """With a known image size it is up to 1.3 times faster.

        In bf16 a graph has its own output alone: what leads to an output from the last product on stays in fp32, and to
        an embedding that is the entire residual stream.
        """
        sized = model.clone()
        for other in names - {output}:
            sized.remove_result(sized.output(other).node)
        sized.reshape([-1, channels, height, width])
        compiled = runtime.compile_model(sized, "CPU", settings | {"NUM_STREAMS": streams})
        return [compiled.create_infer_request() for _ in range(streams)]

    def run(images: Tensor, output: str) -> Tensor:
        parts = images.tensor_split(min(STREAMS, len(images)) or 1)
        asked = requests(output, len(parts), *images.shape[1:])
        for request, part in zip(asked, parts, strict=True):
            request.start_async([part.numpy()], share_inputs=True)
        for request in asked:
            request.wait()
        return torch.cat([torch.from_numpy(request.results[output]) for request in asked])

    return Opened(meta, run)


RUNTIME = FileFormat(
    format="openvino", suffix=".xml", precisions=tuple(libraries.OPENVINO_PRECISIONS), write=write, read=read
)
