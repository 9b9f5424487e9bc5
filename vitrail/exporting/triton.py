"""A model in the repository of NVIDIA's Triton server, which loads it as it is.

::

    models/               the repository: tritonserver --model-repository=$PWD/models
      birds/              a model, named by its folder
        config.pbtxt      its tensors, its preprocessing, and how it is served
        labels.txt        what its outputs are called, where they are classes
        1/model.onnx      a version; OpenVINO has model.xml and model.bin

The layout: https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_repository.md; the fields:
message ``ModelConfig`` of https://github.com/triton-inference-server/common/blob/main/protobuf/model_config.proto.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from vitrail import engines, files
from vitrail.config import to_dict
from vitrail.console import note, printable
from vitrail.engines import INPUT
from vitrail.engines.graph import Graph
from vitrail.errors import UserError
from vitrail.exporting import Arrangement, opened, sizes
from vitrail.predictor import Predictor
from vitrail.trainable import OUTPUTS

FORMATS = {"triton": "onnxruntime", "triton-openvino": "openvino"}  # Triton calls its backends as we our engines
CONFIG, LABELS = "config.pbtxt", "labels.txt"
MAX_BATCH = {
    "onnxruntime": 16,
    "openvino": 0,  # above 0, this backend computes batches of that very size; so each request is a batch of its own
}
SERVING = {
    "onnxruntime": "dynamic_batching { preferred_batch_size: [8, 16], max_queue_delay_microseconds: 5000 }\n"
    "instance_group [ { count: 1, kind: KIND_AUTO } ]\n",
    "openvino": "instance_group [ { count: 1, kind: KIND_CPU } ]\n",
}
VERSIONS = "version_policy { latest { num_versions: 1 } }\n"


@contextmanager
def writing(model: Predictor, to: str, out: Path) -> Iterator[Graph]:
    """Write the model ``out``, or its next version, and yield its graph; it appears completely or not at all.

    Raises:
        UserError: a name that no model can have, a folder that is no model of Triton's or one of other tensors or
            classes or preprocessing, or a place that cannot be written.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.-]*", out.name):
        raise UserError(f"{out.name!r} cannot name a model; take letters, digits, '_', '-' and '.'")
    engine = FORMATS[to]
    version = _next_version(out)
    with files.replacing(out if version == 1 else out / str(version)) as folder:
        inside = folder / "1" if version == 1 else folder
        with opened(model, engine, inside / f"model{engines.load_format(engine).suffix}") as graph:
            yield graph
            described, labels = _described(model, graph, engine, out.name)
        if version > 1:
            _require_same(out, described, labels)
        else:
            served = f"max_batch_size: {MAX_BATCH[engine]}\n{SERVING[engine]}{VERSIONS}"
            (folder / CONFIG).write_text(f"{described}\n# What follows is yours to change.\n{served}", encoding="utf-8")
            if labels:
                (folder / LABELS).write_text(labels, encoding="utf-8")
    note(f"version {version} of {out}")


def _next_version(out: Path) -> int:
    """The number that the next version gets; 1 where there is no such model."""
    if not out.exists():
        return 1
    if not (out / CONFIG).is_file():
        example = str(out / "vit")
        raise UserError(
            f"{out} is there and is no model of Triton's (it has no {CONFIG}); name a new folder in "
            f"the repository, such as {example}"
        )
    versions = [int(each.name) for each in out.iterdir() if re.fullmatch("[1-9][0-9]*", each.name)]
    return 1 + max(versions, default=1)


def _described(model: Predictor, graph: Graph, engine: str, name: str) -> tuple[str, str]:
    """The part of the config that says what the model is, and the classes, one a line; none if outputs are no classes.

    Triton gives its clients the parameters (``/v2/models/NAME/config``), so that they can preprocess.
    """
    dims = _dims(model, graph)
    classes = vars(model.task.config).get("classes", ())
    of_classes = dims[OUTPUTS] == [-1, len(classes)]
    lines = {}
    for tensor, shape in dims.items():
        more = f', label_filename: "{LABELS}"' if tensor == OUTPUTS and of_classes else ""
        shown = shape[1:] if MAX_BATCH[engine] else shape  # with batches, theirs goes without saying
        lines[tensor] = f'  {{ name: "{tensor}", data_type: TYPE_FP32, dims: {shown}{more} }}'
    outputs = ",\n".join(lines[tensor] for tensor in graph.outputs)
    preprocess = json.dumps(json.dumps(to_dict(model.preprocess.config)))  # a text of JSON, in quotes
    text = (
        f'name: "{name}"\nbackend: "{engine}"\ninput [\n{lines[INPUT]}\n]\noutput [\n{outputs}\n]\n'
        f'parameters {{ key: "preprocess", value: {{ string_value: {preprocess} }} }}\n'
    )
    return text, "".join(f"{printable(each)}\n" for each in classes) if of_classes else ""


@torch.inference_mode()
def _dims(model: Predictor, graph: Graph) -> dict[str, list[int]]:
    """The shape of each tensor; what differs between batches and sizes of images is -1."""
    every, shapes = sizes(model, graph), []
    for batch, size in ((1, every[0]), (2, every[-1])):
        images = torch.zeros(batch, model.preprocess.config.channels, *size)
        found = (graph.output(images, name) for name in graph.outputs)
        shapes.append([tensor.shape for tensor in (images, *found)])
    return {
        name: [a if a == b else -1 for a, b in zip(one, other, strict=True)]
        for name, one, other in zip((INPUT, *graph.outputs), *shapes, strict=True)
    }


def _require_same(out: Path, described: str, labels: str) -> None:
    """Is the model that is there described like its new version?

    Raises:
        UserError: it is not.
    """
    found = (out / LABELS).read_bytes() if (out / LABELS).exists() else b""
    if described.encode() not in (out / CONFIG).read_bytes() or found != labels.encode():
        raise UserError(
            f"{out} holds a model of other tensors, classes or preprocessing, or what its {CONFIG} "
            "says of them was changed; name another folder"
        )


ARRANGEMENT = Arrangement(engines=FORMATS, writing=writing)
