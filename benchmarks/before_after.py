"""Is one version of Vitrail slower than another? Both do the same work in turns, in processes of their own.

    python benchmarks/before_after.py BEFORE [AFTER] [--cases startup loading training "engines torch"] [--rounds 7]

BEFORE and AFTER are checkouts; AFTER is this one by default. A case is run if it begins with one of the texts given. A
training step is that of each checkout's own ``training.py``. "cached" loads a file into an engine whose graph is in the
cache, if the version has one. The ratio is the median time before over the one after: above 1, the later one is faster.
"""

from __future__ import annotations

import argparse
import importlib
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from common import classifier
from turns import Step, take_turns

HERE = Path(__file__).resolve().parents[1]
COMMANDS = {"help": ["-m", "vitrail", "--help"], "load": ["-c", "import vitrail; vitrail.load"]}
ENGINES = ("eager fp32", "eager bf16", "torch fp32", "torch bf16", "onnxruntime fp32", "openvino fp32", "openvino bf16")
CASES = (
    *(f"startup {name}" for name in COMMANDS),
    "loading eager",
    *(f"training {model} {dtype}" for model in ("S/16", "Ti/4") for dtype in ("fp32", "bf16")),
    *(f"engines {name}" for name in ENGINES),
    "cached onnxruntime",
    "cached openvino",
)
BATCH = 8


def build(checkout: str, case: str, model: str) -> Step:
    """The step of a case with Vitrail from the checkout."""
    kind, *details = case.split()
    if kind == "startup":
        return starting(COMMANDS[details[0]], os.environ | {"PYTHONPATH": checkout})
    sys.path[:0] = [checkout, f"{checkout}/benchmarks"] if kind == "training" else [checkout]
    import vitrail

    assert Path(vitrail.__file__).is_relative_to(checkout), f"{vitrail.__file__} is not in {checkout}"
    if kind == "training":
        script: Any = importlib.import_module("training")
        step: Step = script.build_step("vitrail", script.MODELS[details[0]], details[1], False)
        return step
    return predicting(model, *details) if kind == "engines" else loading(model, *details)


def starting(command: list[str], environment: dict[str, str]) -> Step:
    def step() -> None:
        subprocess.run([sys.executable, *command], env=environment, check=True, stdout=subprocess.DEVNULL)

    return step


def predicting(model: str, engine: str, precision: str) -> Step:
    import torch

    predictor = classifier(model).running(engine, precision)
    images = torch.randn(BATCH, 3, *predictor.preprocess.config.size)

    @torch.inference_mode()
    def step() -> None:
        predictor.engine(images)

    return step


def loading(model: str, engine: str) -> Step:
    import vitrail

    file = Path(tempfile.mkdtemp(dir=os.environ["VITRAIL_CACHE"])) / "model.safetensors"
    classifier(model).save(file)

    def step() -> None:
        vitrail.load(file, device="cpu", engine=engine)

    return step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("before", type=Path)
    parser.add_argument("after", type=Path, nargs="?", default=HERE)
    parser.add_argument(
        "--cases", nargs="+", default=["startup", "loading", "training", "engines"], help=", ".join(CASES)
    )
    parser.add_argument("--model", default="S/16", help="of every case but training")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    checkouts = {"before": str(options.before.resolve()), "after": str(options.after.resolve())}
    print(f"{'':28} {'before':>10} {'after':>10}   ratio")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["VITRAIL_CACHE"] = folder
        for case in (case for case in CASES if case.startswith(tuple(options.cases))):
            steps = {name: (build, (checkout, case, options.model)) for name, checkout in checkouts.items()}
            seconds = take_turns(steps, options.rounds).seconds
            before, after = (statistics.median(seconds[name]) for name in checkouts)
            print(f"{case:28} {before * 1e3:7.1f} ms {after * 1e3:7.1f} ms   {before / after:.3f}", flush=True)


if __name__ == "__main__":
    main()
