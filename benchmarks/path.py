"""A folder of JPEGs to their five best classes: Vitrail's engines against the Hugging Face pipeline.

    python benchmarks/path.py [--model S/16] [--images 1000] [--batch 8] [--rounds 3] [--photos FOLDER]

Each candidate reads the files from disk, decodes, resizes, batches and ranks, in a process of its own with as many
threads as PyTorch takes; they take turns, and the median counts. Weights are random, for 1,000 classes; "int8.xml" is
OpenVINO's file from `vitrail quantize`, what is not int8 in it in bf16. Beside each engine stands its bare rate on a
batch that is in memory. The photos are those of a folder, again and again until there are enough, or smooth noise of
460 × 390 pixels.

Targets: the fastest ≥ 5 × the pipeline, and ≥ 85 % of the engine's bare rate. Decoding and resizing take the same two
cores as the engine, so the share cannot exceed engine ÷ (engine + decoding), which is printed as the limit.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from common import CLASSES, classifier
from engines import CALIBRATION
from PIL import Image, ImageFilter
from turns import PER_TURN, Step, take_turns

from vitrail import console, load, preset, quantize

PEER = "Hugging Face pipeline"
INT8 = "int8.xml"
OURS = [("eager", "fp32"), ("torch", "fp32"), ("torch", "bf16"), ("openvino", "fp32"), ("openvino", "bf16"),
        (INT8, "bf16")]  # fmt: skip


def build_ours(engine: str, precision: str, model: str, files: list[str], batch: int, bare: bool) -> Step:
    if engine == INT8:
        predictor = load(Path(files[0]).parent / INT8, precision=precision)
    else:
        predictor = classifier(model).running(engine, precision)
    if bare:
        images = torch.randn(batch, 3, *predictor.preprocess.config.size)

        @torch.inference_mode()
        def run() -> None:
            for _ in range(0, len(files), batch):
                predictor.engine(images)

        return run

    def path() -> None:
        for _, prediction in predictor.stream(files, batch):
            prediction.top(5)

    return path


def build_pipeline(model: str, files: list[str], batch: int) -> Step:
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor, pipeline

    config = preset(model)
    settings = ViTConfig(
        hidden_size=config.dim,
        num_hidden_layers=config.depth,
        num_attention_heads=config.heads,
        intermediate_size=config.mlp_dim,
        num_labels=len(CLASSES),
    )
    classify: Any = pipeline(
        "image-classification",
        model=ViTForImageClassification(settings).eval(),
        image_processor=ViTImageProcessor(),
        device="cpu",
    )

    def run() -> None:
        for _ in classify(files, batch_size=batch, top_k=5):
            pass

    return run


def decoding_rate(files: list[str], model: str) -> float:
    """Images per second that one core reads, decodes and resizes."""
    predictor = classifier(model)
    predictor.pixels(files[0])
    started = time.perf_counter()
    for file in files:
        predictor.pixels(file)
    return len(files) / (time.perf_counter() - started)


def write_files(folder: Path, count: int, photos: str | None) -> list[str]:
    """The photos repeated, or smooth noise."""
    rng = np.random.default_rng(0)
    names = [str(folder / f"{number:05}.jpg") for number in range(count)]
    found = sorted(Path(photos).glob("*.[jJ][pP]*")) if photos else []
    for name, photo in zip(names, itertools.cycle(found or [None])):
        if photo is not None:
            Path(name).write_bytes(photo.read_bytes())
        else:
            noise = Image.fromarray(rng.integers(0, 256, (390, 460, 3), np.uint8))
            noise.filter(ImageFilter.GaussianBlur(2)).save(name, quality=90)
    return names


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="S/16")
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--photos")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        files = write_files(Path(folder), options.images, options.photos)
        quantize(classifier(options.model), Path(folder) / INT8, files[:CALIBRATION], budget=100)
        part = files[: max(options.batch, options.images // (PER_TURN * options.rounds))]
        candidates: dict[str, Any] = {PEER: (build_pipeline, (options.model, part, options.batch))}
        for name, precision in OURS:
            for kind in ("", "bare "):
                arguments = (name, precision, options.model, part, options.batch, bool(kind))
                candidates[f"{kind}{name} {precision}"] = (build_ours, arguments)
        seconds = take_turns(candidates, options.rounds).seconds
        decoded = decoding_rate(part, options.model)
    rates = {name: len(part) / statistics.median(taken) for name, taken in seconds.items()}
    cores = torch.get_num_threads()
    rows = [[PEER, f"{rates[PEER]:.1f}", "", "", "", ""]]
    for name in (f"{engine} {precision}" for engine, precision in OURS):
        bare = rates[f"bare {name}"]
        limit = 1 / (1 + bare / (cores * decoded))
        share = rates[name] / bare
        over = rates[name] / rates[PEER]
        rows.append([name, f"{rates[name]:.1f}", f"{over:.2f} ×", f"{bare:.1f}", f"{share:.0%}", f"{limit:.0%}"])
    print(f"{options.model}, {len(part)} files a step, batch {options.batch}, {cores} threads")
    print(f"one core reads, decodes and resizes {decoded:.0f} images/s")
    print(console.table(["", "images/s", "over the pipeline", "bare engine", "share", "limit"], rows))


if __name__ == "__main__":
    main()
