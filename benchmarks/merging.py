"""How much faster is a ViT that merges tokens? S/16 at 224 px with r = 0, 8, 13, 16 against the plain one and timm's.

    python benchmarks/merging.py [--model S/16] [--batch-sizes 1 8] [--precisions fp32 bf16] [--rounds 7]

Forward passes of models with random weights, each in a process of its own; they take turns, the median counts. Random
weights merge as many tokens as trained ones. Beside each time its ratio to our plain model, and the share of its
multiply–accumulates, which is the bound. timm is the plain model; merging is not part of it.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from statistics import median

import torch
from common import classifier
from turns import take_turns

from vitrail.compress import Levels
from vitrail.compress.curve import cost
from vitrail.compress.methods import tome
from vitrail.console import table
from vitrail.tasks import Task

LEVELS: Levels = (0, 8, 13, 16)
TIMM = {"Ti": "tiny", "S": "small", "B": "base", "L": "large"}


def task(model: str, r: int | None) -> Task:
    """A classifier of 1,000 classes, plain (None) or merging."""
    plain = classifier(model).task
    return plain if r is None else tome.apply(plain, tome.Options(r=r)).eval()


def ours(model: str, r: int | None, batch_size: int, precision: str) -> Callable[[], None]:
    return step(task(model, r), batch_size, precision)


def timms(model: str, batch_size: int, precision: str) -> Callable[[], None]:
    import timm

    size, patch = model.split("/")
    return step(timm.create_model(f"vit_{TIMM[size]}_patch{patch}_224").eval(), batch_size, precision)


def step(model: torch.nn.Module, batch_size: int, precision: str) -> Callable[[], None]:
    """One forward pass."""
    images = torch.randn(batch_size, 3, 224, 224)

    def run() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            model(images)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 8])
    parser.add_argument("--precisions", nargs="+", default=["fp32", "bf16"], choices=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    levels = {"plain": None, **{f"r={r:g}": int(r) for r in LEVELS}}
    costs = {name: cost(task(options.model, r)) for name, r in levels.items()}
    for precision in options.precisions:
        for batch_size in options.batch_sizes:
            how = batch_size, precision
            candidates = {name: (ours, (options.model, r, *how)) for name, r in levels.items()}
            candidates["timm"] = (timms, (options.model, *how))
            seconds = {n: median(s) for n, s in take_turns(candidates, options.rounds).seconds.items()}
            rows = [
                (
                    name,
                    costs[name].tokens if name in costs else "",
                    f"{100 * costs[name].macs / costs['plain'].macs:.0f} %" if name in costs else "",
                    f"{1000 * taken:.1f}",
                    f"{seconds['plain'] / taken:.2f}",
                    f"{seconds['timm'] / taken:.2f}",
                )
                for name, taken in seconds.items()
            ]
            print(f"\n{options.model}, {precision}, batch {batch_size}, {torch.get_num_threads()} threads")
            print(table(("model", "tokens left", "MACs", "ms", "× plain", "× timm"), rows), flush=True)


if __name__ == "__main__":
    main()
