"""The rate of matrix products on this machine, the ceiling of every transformer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import torch

from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.engines import openvino as openvino_engine
from vitrail.engines.torch import PackedLinear, has_onednn
from vitrail.errors import UserError

SIZES = {"cpu": 2048}  # rows and columns of the factors
ELSEWHERE = 8192
SECONDS = 0.5  # for each library and precision
Product = Callable[[], Any]


@dataclass(frozen=True)
class Ceiling:
    """What one library reaches.

    Attributes:
        library: ``torch`` (``torch.mm``), ``onednn`` (as the engine ``torch`` calls it) or ``openvino``.
        gflops: 10⁹ floating point operations a second, two for each multiply–accumulate.
    """

    library: str
    precision: str
    gflops: float


def measure(precisions: Iterable[str], device: torch.device) -> list[Ceiling]:
    """Of every library that is here, for the precisions that have a floating point type of PyTorch's."""
    return [
        Ceiling(library, precision, rate(products, n, device))
        for precision in precisions
        if precision == "fp32" or precision in AUTOCAST_DTYPES
        for n in (SIZES.get(device.type, ELSEWHERE),)
        for library, products in _products(precision, n, device)
    ]


def rate(products: Iterable[Product], n: int, device: torch.device) -> float:
    """GFLOP/s of the fastest call of any of some n × n products.

    A ceiling is what the machine can do, so neighbours that slow some of the calls down do not count.
    """
    fastest = float("inf")
    for product in products:
        product()
        synchronise(device)
        ends = time.perf_counter() + SECONDS
        while (started := time.perf_counter()) < ends:
            product()
            synchronise(device)
            fastest = min(fastest, time.perf_counter() - started)
    return 2e-9 * n**3 / fastest


def synchronise(device: torch.device) -> None:
    """Wait for what an accelerator was given to do."""
    if device.type != "cpu":
        torch.accelerator.synchronize(device)


def _products(precision: str, n: int, device: torch.device) -> Iterator[tuple[str, list[Product]]]:
    dtype = AUTOCAST_DTYPES.get(precision, torch.float32)
    a, b, out = (torch.randn(n, n, device=device).to(dtype) for _ in range(3))
    yield "torch", [lambda: torch.mm(a, b, out=out), lambda: torch.mm(a, b.T, out=out)]
    if device.type == "cpu" and precision in openvino_engine.PRECISIONS:
        if has_onednn(device, dtype):
            linear = PackedLinear(torch.nn.Linear(n, n, bias=False), dtype)
            yield "onednn", [torch.inference_mode()(lambda: linear(a))]
        with suppress(UserError):  # not installed
            yield "openvino", [_through_openvino(precision, n)]


def _through_openvino(precision: str, n: int) -> Product:
    openvino = openvino_engine.silent()
    operators = openvino.opset13
    a, b = (torch.randn(n, n).numpy() for _ in range(2))
    given = operators.parameter([n, n])
    model = openvino.Model([operators.matmul(given, operators.constant(b), False, True)], [given])
    settings = {
        "INFERENCE_PRECISION_HINT": openvino_engine.HINTS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = openvino_engine.core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([a], share_inputs=True, share_outputs=True)
