"""A program in the format that ONNX Runtime runs and OpenVINO reads."""

from __future__ import annotations

import logging
from ast import literal_eval
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from vitrail.engines.libraries import library
from vitrail.engines.program import Program
from vitrail.errors import UserError

SCOPES = "pkg.torch.onnx.name_scopes"  # of a node: the modules that it comes from, and the call
LIMIT = 2**31 - 2**20  # a protobuf message ends at 2 GiB


def write(program: Program, path: Path, metadata: Mapping[str, str]) -> None:
    """Write one file that holds the weights too.

    Raises:
        UserError: the exporter is not installed, or the model is larger than the format allows.
    """
    for name in ("onnx", "onnxscript"):
        library(name, "onnx")
    size = sum(tensor.nbytes for tensor in program.graph.state_dict.values())
    if size > LIMIT:
        raise UserError(f"an ONNX file holds 2 GiB at most, and the model has {size / 2**30:.1f}; export it to pt2")
    onnx = converted(program)
    onnx.model.metadata_props.update(metadata)
    onnx.save(path)


def converted(program: Program) -> torch.onnx.ONNXProgram:
    """The program as PyTorch's exporter writes it, its linear layers named as the task names them."""
    chatter = logging.getLogger("onnxscript")
    level = chatter.level
    chatter.setLevel(logging.ERROR)  # it reports every constant that it does not fold
    try:
        onnx = torch.onnx.export(
            program.graph,
            input_names=list(program.inputs),
            output_names=list(program.outputs),
            dynamo=True,
            verbose=False,
            custom_translation_table={torch.ops.aten.scaled_dot_product_attention.default: _attention},
        )
    finally:
        chatter.setLevel(level)
    assert onnx is not None
    _name_layers(onnx.model.graph)
    return onnx


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Any:
    """softmax(q kᵀ / √d + mask) v in the four operations that runtimes fuse.

    The exporter's own translation scales queries and keys apart and reshapes the keys to turn them, which OpenVINO then
    does, too.
    """
    from onnxscript import opset20 as op

    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = op.MatMul(op.Mul(query, op.Constant(value_float=factor)), op.Transpose(key, perm=[0, 1, 3, 2]))
    if attn_mask is not None:
        scores = op.Add(scores, attn_mask)
    return op.MatMul(op.Softmax(scores, axis=-1), value)


def _name_layers(graph: Any) -> None:
    """Call the products of linear layers as the task does, such as ``vit.blocks.0.mlp.fc1``."""
    taken = set()
    for node in graph:
        scopes: list[str] = literal_eval(node.metadata_props.get(SCOPES, "[]"))
        layer, call = ["", "", *scopes][-2:]
        if node.op_type in ("MatMul", "Gemm") and call.startswith("linear") and layer not in taken:
            taken.add(layer)
            node.name = layer.removeprefix("task.")
