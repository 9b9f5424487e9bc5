"""The rate of matrix products, the roofline of a transformer: GFLOP/s of an n × n product, by precision.

python benchmarks/matmul.py [--size 2048]
"""

from __future__ import annotations

import argparse
import time

import torch

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}


def matmul_rate(precision: str, size: int = 2048, seconds: float = 2.0) -> float:
    """FLOP/s of a square product, plain and with a transposed factor (a linear layer): the fastest one.

    The fastest product counts, because other processes slow some of them down.
    """
    a, b, out = (torch.randn(size, size, dtype=DTYPES[precision]) for _ in range(3))
    torch.mm(a, b, out=out)
    taken: list[float] = []
    while sum(taken) < seconds:
        for factor in (b, b.T):
            started = time.perf_counter()
            torch.mm(a, factor, out=out)
            taken.append(time.perf_counter() - started)
    return 2 * size**3 / min(taken)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=2048)
    options = parser.parse_args()
    for precision in DTYPES:
        rate = matmul_rate(precision, options.size)
        print(f"{precision}: {rate / 1e9:.0f} GFLOP/s ({options.size}³, {torch.get_num_threads()} threads)")


if __name__ == "__main__":
    main()
