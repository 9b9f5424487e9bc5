"""OpenVINO, by NNCF: calibrated ranges of inputs and weights, and biases corrected for what rounding shifts.

NNCF's telemetry is OpenVINO's, which is hidden already.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.engines import libraries
from vitrail.int8 import Int8Format
from vitrail.int8.layers import belongs
from vitrail.int8.quiet import quiet
from vitrail.int8.signals import same_signal_stack


def write(plain: Path, out: Path, layers: Sequence[str], images: Sequence[Tensor], *, seven_bits: bool) -> None:
    """Quantise the inputs and the weights of ``layers``. The inputs are smooth already, so NNCF leaves that out.

    Raises:
        UserError: a library is not installed.
    """
    openvino = libraries.openvino()
    model = libraries.openvino_core().read_model(plain)
    with quiet(), same_signal_stack():
        nncf = libraries.library("nncf", "int8")
        advanced = nncf.AdvancedQuantizationParameters(
            overflow_fix=nncf.OverflowFix.ENABLE if seven_bits else None,
            smooth_quant_alphas=nncf.AdvancedSmoothQuantParameters(matmul=-1),
        )
        quantised = nncf.quantize(
            model,
            nncf.Dataset([image.numpy() for image in images]),
            subset_size=len(images),
            model_type=nncf.ModelType.TRANSFORMER,
            ignored_scope=_others(nncf, model, layers),
            advanced_parameters=advanced,
        )
    openvino.save_model(quantised, out, compress_to_fp16=False)


def write_weights(plain: Path, out: Path, layers: Sequence[str]) -> None:
    """Store the weights of ``layers`` in 8 bits, with a scale and a zero point an output channel. Raises as above."""
    openvino = libraries.openvino()
    model = libraries.openvino_core().read_model(plain)
    with quiet(), same_signal_stack():
        nncf = libraries.library("nncf", "int8")
        compressed = nncf.compress_weights(
            model, mode=nncf.CompressWeightsMode.INT8_ASYM, ignored_scope=_others(nncf, model, layers)
        )
    openvino.save_model(compressed, out, compress_to_fp16=False)


def _others(nncf: Any, model: Any, layers: Sequence[str]) -> Any:
    """Every product that is none of the layers."""
    products = (op for op in model.get_ops() if op.get_type_name() in ("MatMul", "Convolution"))
    names = (op.get_friendly_name() for op in products)
    return nncf.IgnoredScope(names=[name for name in names if not belongs(name, layers)])


FORMAT = Int8Format(write=write, write_weights=write_weights)
