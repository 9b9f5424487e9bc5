"""ONNX Runtime: pairs of QuantizeLinear and DequantizeLinear, which it makes products of int8."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from types import SimpleNamespace

from torch import Tensor

from vitrail.engines import INPUT, libraries
from vitrail.int8 import Int8Format
from vitrail.int8.layers import belongs
from vitrail.int8.quiet import quiet

BLOCK = 128  # weights that share a scale where they alone are int8


def write(plain: Path, out: Path, layers: Sequence[str], images: Sequence[Tensor], *, seven_bits: bool) -> None:
    """Quantise the inputs (uint8) and the weights (int8, a scale an output channel) of ``layers``; outputs stay float.

    Raises:
        UserError: a library is not installed.
    """
    libraries.onnxruntime()
    import onnx
    from onnxruntime.quantization import QuantType, quantize_static

    model = onnx.load(plain)
    feeds = ({INPUT: image.numpy()} for image in images)
    with quiet():
        quantize_static(
            model,
            out,
            SimpleNamespace(get_next=partial(next, feeds, None)),
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=[node.name for node in model.graph.node if belongs(node.name, layers)],
            per_channel=True,
            reduce_range=seven_bits,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            extra_options={"OpTypesToExcludeOutputQuantization": ["MatMul"]},
        )


def write_weights(plain: Path, out: Path, layers: Sequence[str]) -> None:
    """Store the weights of ``layers`` in 8 bits, with a scale and a zero point a block. Raises as above."""
    libraries.onnxruntime()
    import onnx
    from onnxruntime.quantization.matmul_nbits_quantizer import MatMulNBitsQuantizer

    model = onnx.load(plain)
    others = [node.name for node in model.graph.node if not belongs(node.name, layers)]
    with quiet():
        quantizer = MatMulNBitsQuantizer(model, bits=8, block_size=BLOCK, nodes_to_exclude=others)
        quantizer.process()
    onnx.save(quantizer.model.model, out)


FORMAT = Int8Format(write=write, write_weights=write_weights)
