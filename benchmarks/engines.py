"""How fast is a ViT at prediction? Our engines against timm eager and the stock runtimes on the same graph.

    python benchmarks/engines.py [--models S/16] [--batches 1 8] [--rounds 7]

Each candidate lives in a process of its own, with as many threads as PyTorch takes, and they take turns; the median
counts. "raw" is the exported file in the stock runtime as its own documentation opens it, with the same precision and
threads: what Vitrail adds to it is the check of the images and a copy, and in OpenVINO that both halves of a batch run
at once, and only the output that is asked for. bf16 stands beside fp32 where the engine has it.
"int8" is OpenVINO's file from `vitrail quantize`, what is not int8 in it in the precision beside it; "r=8" merges 8
tokens in every layer, which costs the real ViT-Ti/16 no point on the 200 photos, and "r=16" 16, which costs it three.

Targets: the better engine ≥ 2.1 × timm eager fp32 in fp32, ≥ 4 × in bf16, ≥ 6.5 × in int8 and ≥ 9 × with merging,
torch ≥ 1.5 × in fp32, and no engine over 3 % slower than raw.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
from typing import Any

import numpy as np
import torch
from common import classifier, timm_vit
from turns import Step, take_turns

import vitrail
from vitrail import console
from vitrail.compress import apply

PEER = "timm"
OURS = [("eager", "fp32"), ("eager", "bf16"), ("torch", "fp32"), ("torch", "bf16"), ("pt2", "fp32"),
        ("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16")]  # fmt: skip
INT8 = [("int8", "fp32"), ("int8", "bf16")]
MERGES = (8, 16)  # tokens in each layer
MERGED = [(f"{kind} r={r}", "bf16") for r in MERGES for kind in ("openvino", "int8")]
RAW = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("openvino", "bf16"), *INT8]
PLAIN = {"onnxruntime": ".onnx", "openvino": ".xml", "pt2": ".pt2"}
FORMATS = {"onnxruntime": "onnx"}  # where it is not called as the engine
SUFFIXES = PLAIN | dict.fromkeys(("int8", *(name for name, _ in MERGED)), ".xml")
CALIBRATION = 8  # images; speed does not hang on what they show
HINTS = {"fp32": "f32", "bf16": "bf16"}  # OpenVINO's names


def random_images(model: str, batch: int) -> torch.Tensor:
    return torch.randn(batch, 3, *vitrail.preset(model).image_size)


def build_ours(engine: str, precision: str, model: str, folder: str, batch: int) -> Step:
    images = random_images(model, batch)
    if engine in SUFFIXES:
        file = f"{folder}/{engine}{SUFFIXES[engine]}"
        predictor = vitrail.load(file, precision=precision, allow_pickle=True)
    else:
        predictor = classifier(model).running(engine, precision)
    return inferring(lambda: predictor.engine(images))


def build_timm(model: str, batch: int) -> Step:
    config = vitrail.preset(model)
    patch = config.patch_size[0]
    vit = timm_vit(config.image_size[0], patch, config.dim, config.depth, config.heads, config.mlp_dim, 1000).eval()
    images = random_images(model, batch)
    return inferring(lambda: vit(images))


def build_raw(engine: str, precision: str, model: str, folder: str, batch: int) -> Step:
    images = random_images(model, batch).numpy()
    threads = torch.get_num_threads()
    if engine == "onnxruntime":
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        session = onnxruntime.InferenceSession(f"{folder}/{engine}.onnx", options)
        return lambda: session.run(None, {"images": images})
    sys.modules["openvino_telemetry"] = None  # type: ignore[assignment]  # so that it reports to nobody
    import openvino

    settings = {"INFERENCE_PRECISION_HINT": HINTS[precision], "INFERENCE_NUM_THREADS": threads}
    compiled = openvino.Core().compile_model(f"{folder}/{engine}.xml", "CPU", settings)
    return lambda: np.copy(compiled(images)["outputs"])


def inferring(run: Any) -> Step:
    @torch.inference_mode()
    def step() -> None:
        run()

    return step


def report(model: str, batch: int, folder: str, rounds: int) -> None:
    candidates: dict[str, Any] = {PEER: (build_timm, (model, batch))}
    candidates |= {
        f"{name} {dtype}": (build_ours, (name, dtype, model, folder, batch)) for name, dtype in OURS + INT8 + MERGED
    }
    candidates |= {f"raw {name} {dtype}": (build_raw, (name, dtype, model, folder, batch)) for name, dtype in RAW}
    seconds, memory = take_turns(candidates, rounds)
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    rows = [
        [
            name,
            f"{median * 1e3:.1f}",
            f"{min(seconds[name]) * 1e3:.1f}–{max(seconds[name]) * 1e3:.1f}",
            f"{batch / median:.1f}",
            f"{memory[name]:.1f}",
            f"{medians[PEER] / median:.2f} ×",
            f"{medians[f'raw {name}'] / median:.2f} ×" if f"raw {name}" in medians else "",
        ]
        for name, median in medians.items()
    ]
    print(f"{model} at {vitrail.preset(model).image_size[0]} px, batch {batch}, {torch.get_num_threads()} threads")
    print(console.table(["", "ms", "range", "images/s", "peak GB", "over timm fp32", "over raw"], rows))
    groups = {dtype: [each for each in OURS if each[1] == dtype] for dtype in ("fp32", "bf16")}
    groups |= {"int8": INT8, "merged": MERGED}
    for title, group in groups.items():
        best = min((f"{name} {dtype}" for name, dtype in group), key=lambda name: medians[name])
        print(f"→ {title}: {best}, {medians[PEER] / medians[best]:.2f} × timm eager fp32", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="+", default=["S/16"])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 8])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for model in options.models:
        with tempfile.TemporaryDirectory() as folder:
            plain = classifier(model)
            for name, suffix in PLAIN.items():
                vitrail.export(plain, f"{folder}/{name}{suffix}", to=FORMATS.get(name, name))
            size = plain.preprocess.config.size
            images = list(torch.randint(256, (CALIBRATION, 3, *size), dtype=torch.uint8))
            vitrail.quantize(plain, f"{folder}/int8.xml", images, budget=100)
            for r in MERGES:
                merged = apply(plain, "tome", r=r)
                vitrail.export(merged, f"{folder}/openvino r={r}.xml", to="openvino")
                vitrail.quantize(merged, f"{folder}/int8 r={r}.xml", images, budget=100)
            for batch in options.batches:
                report(model, batch, folder, options.rounds)


if __name__ == "__main__":
    main()
