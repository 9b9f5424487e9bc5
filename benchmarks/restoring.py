"""How fast is super-resolution? The default model in eager PyTorch and in OpenVINO against spandrel's SwinIR-light.

    python benchmarks/restoring.py [--height 240] [--width 320] [--rounds 5]

All double the same picture, with random weights, in processes of their own with as many threads as PyTorch takes; they
take turns, and the median counts. Ours is the entire prediction, from pixels to pixels by tiles; spandrel's is the bare
model on a tensor. Targets: OpenVINO ≥ 2 × eager, and ≥ 1.5 × SwinIR-light.
"""

from __future__ import annotations

import argparse
import statistics
from typing import Any

import numpy as np
import torch
from turns import Step, take_turns

import vitrail
from vitrail import console
from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.tasks.super_resolution import Config, Task, exact_tiles, light

PEER = "SwinIR-light"


def picture(height: int, width: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


def build_ours(engine: str, height: int, width: int) -> Step:
    torch.manual_seed(0)
    task = Task(Config(model=light(), scale=2)).eval()
    preprocess = PreprocessConfig(
        size=light().image_size, resize="none", mean=(0,), std=(1,), tiles=exact_tiles(task.config),
        degrade=DegradeConfig(scale=2),
    )  # fmt: skip
    predictor = vitrail.Predictor(task, preprocess, device="cpu").running(engine, "fp32")
    given = picture(height, width)

    def run() -> None:
        predictor.predict(given)

    return run


def build_spandrel(height: int, width: int) -> Step:
    from spandrel.architectures.SwinIR import SwinIR

    torch.manual_seed(0)
    model = SwinIR(
        upscale=2, img_size=64, window_size=8, depths=[6] * 4, embed_dim=60, num_heads=[6] * 4, mlp_ratio=2,
        upsampler="pixelshuffledirect",
    ).eval()  # fmt: skip
    images = torch.from_numpy(picture(height, width)).permute(2, 0, 1)[None] / 255

    @torch.inference_mode()
    def run() -> None:
        model(images)

    return run


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--height", type=int, default=240)
    parser.add_argument("--width", type=int, default=320)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    size = (options.height, options.width)
    candidates: dict[str, tuple[Any, Any]] = {engine: (build_ours, (engine, *size)) for engine in ("eager", "openvino")}
    candidates[PEER] = (build_spandrel, size)
    found = take_turns(candidates, options.rounds)
    medians = {name: statistics.median(seconds) for name, seconds in found.seconds.items()}
    rows = [
        [name, f"{median:.3f}", f"{found.memory[name]:.2f}", *(f"{medians[each] / median:.2f} ×" for each in medians)]
        for name, median in medians.items()
    ]
    print(console.table(["", "s", "peak GB", *(f"over {each}" for each in medians)], rows))


if __name__ == "__main__":
    main()
