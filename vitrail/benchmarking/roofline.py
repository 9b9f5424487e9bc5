"""The rate of matrix products on this machine, the roofline of a transformer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import torch

from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.engines import libraries
from vitrail.engines.packed import PackedLinear, has_onednn
from vitrail.errors import UserError

SIZES = {"cpu": 2048}  # rows and columns of the factors
ELSEWHERE = 8192
SECONDS = 0.5  # for each library and precision
Product = Callable[[], object]


@dataclass(frozen=True)
class Roofline:
    """The peak rate of one library in one precision.

    Attributes:
        library: ``torch`` (``torch.mm``), ``onednn`` (as the engine ``torch`` calls it) or ``openvino``.
        gflops: 10⁹ floating point operations a second, two for each multiply–accumulate.
    """

    library: str
    precision: str
    gflops: float


def measure(precisions: Iterable[str], device: torch.device) -> list[Roofline]:
    """Of every library that is installed, for the precisions that have a floating point type of PyTorch's."""
    return [
        Roofline(library, precision, rate(products, n, device))
        for precision in precisions
        if precision == "fp32" or precision in AUTOCAST_DTYPES
        for n in (SIZES.get(device.type, ELSEWHERE),)
        for library, products in _products(precision, n, device)
    ]


def rate(products: Iterable[Product], n: int, device: torch.device) -> float:
    """GFLOP/s of the fastest call of any of some n × n products.

    The fastest call counts, because other processes slow some of the calls down.
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
    if device.type == "cpu" and precision in libraries.OPENVINO_PRECISIONS:
        if has_onednn(device, dtype):
            linear = PackedLinear(torch.nn.Linear(n, n, bias=False), dtype)
            yield "onednn", [torch.inference_mode()(lambda: linear(a))]
        with suppress(UserError):  # not installed
            yield "openvino", [_through_openvino(precision, n)]


def _through_openvino(precision: str, n: int) -> Product:
    openvino = libraries.openvino()
    operators = openvino.opset13
    a, b = (torch.randn(n, n).numpy() for _ in range(2))
    given = operators.parameter([n, n])
    model = openvino.Model([operators.matmul(given, operators.constant(b), False, True)], [given])
    settings = {
        "INFERENCE_PRECISION_HINT": libraries.OPENVINO_PRECISIONS[precision],
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
    }
    request = libraries.openvino_core().compile_model(model, "CPU", settings).create_infer_request()
    return lambda: request.infer([a], share_inputs=True, share_outputs=True)
