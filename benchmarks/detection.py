"""What does a training step of a detector cost, beside transformers' YOLOS of the same backbone?

    python benchmarks/detection.py [--precisions fp32 bf16] [--rounds 7]

Ti/16 at 320 px, 100 queries (YOLOS: detection tokens), 7 objects an image; forward, matching, loss and backward of a
batch of 8, in processes that take turns. Ours has a decoder of 3 layers of 192 on top, proposals, and losses of every
layer; YOLOS has neither. "windows" is ours with attention in windows of 10 × 10 patches in 8 of the 12 blocks (ViTDet).
All processes keep freed memory as ``vitrail train`` does.

Goal: ≥ 1.2 × transformers' throughput.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from types import SimpleNamespace
from typing import TypeAlias

import torch
from matmul import matmul_rate
from torch import Tensor, nn
from turns import Step, take_turns

from vitrail import console
from vitrail.nn.detr_decoder import DecoderConfig
from vitrail.nn.windows import WindowConfig
from vitrail.ops.boxes import cxcywh_to_xyxy
from vitrail.tasks import detection
from vitrail.train import precision
from vitrail.train.allocator import keep_freed_memory
from vitrail.vit import preset

Loss: TypeAlias = Callable[[], Tensor]
BATCH, SIZE, OBJECTS, QUERIES, CLASSES = 8, 320, 7, 100, 80
WINDOWS = {"vitrail": None, "vitrail, windows": WindowConfig(size=10)}
PEER = "transformers"
MODEL = preset("Ti/16", image_size=SIZE, positions="sincos_2d")


def build_step(contender: str, dtype: str) -> Step:
    """What one contender repeats."""
    keep_freed_memory()
    torch.manual_seed(0)
    images = torch.randn(BATCH, 3, SIZE, SIZE)
    boxes = torch.cat((torch.rand(BATCH, OBJECTS, 2) * 0.5 + 0.25, torch.rand(BATCH, OBJECTS, 2) * 0.4 + 0.05), dim=2)
    labels = torch.randint(CLASSES, (BATCH, OBJECTS))
    if contender == PEER:
        module, loss = _transformers(images, boxes, labels)
    else:
        module, loss = _vitrail(images, boxes, labels, WINDOWS[contender])
    module.train()

    def step() -> None:
        with precision.autocast(dtype, torch.device("cpu")):
            value = loss()
        value.backward()
        module.zero_grad()

    return step


def _vitrail(images: Tensor, boxes: Tensor, labels: Tensor, window: WindowConfig | None) -> tuple[nn.Module, Loss]:
    pairs = zip(cxcywh_to_xyxy(boxes) * SIZE, labels, strict=True)
    targets = [SimpleNamespace(boxes_xyxy=each, labels=own) for each, own in pairs]
    decoder = DecoderConfig(dim=MODEL.dim, depth=3, heads=MODEL.heads, mlp_dim=768, num_queries=QUERIES)
    names = tuple(map(str, range(CLASSES)))
    config = detection.Config(model=MODEL, classes=names, decoder=decoder, denoising=None, window=window)
    task = detection.Task(config)
    return task, lambda: task.loss({"images": images, "targets": targets})["loss"]


def _transformers(images: Tensor, boxes: Tensor, labels: Tensor) -> tuple[nn.Module, Loss]:
    from transformers import YolosConfig, YolosForObjectDetection

    yolos = YolosForObjectDetection(
        YolosConfig(
            hidden_size=MODEL.dim,
            num_hidden_layers=MODEL.depth,
            num_attention_heads=MODEL.heads,
            intermediate_size=MODEL.mlp_dim,
            image_size=(SIZE, SIZE),
            num_detection_tokens=QUERIES,
            num_labels=CLASSES,
            use_mid_position_embeddings=False,
            attn_implementation="sdpa",
        )
    )
    truth = [{"class_labels": own, "boxes": each} for each, own in zip(boxes, labels, strict=True)]
    return yolos, lambda: yolos(images, labels=truth).loss


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--precisions", nargs="+", choices=("fp32", "bf16"), default=["fp32", "bf16"])
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    for dtype in options.precisions:
        names = (*WINDOWS, PEER)
        seconds, memory = take_turns({name: (build_step, (name, dtype)) for name in names}, options.rounds)
        medians = {name: statistics.median(taken) for name, taken in seconds.items()}
        rate = matmul_rate(dtype) / 1e9
        print(f"detection, Ti/16 at {SIZE} px, {dtype}, batch {BATCH}; matmul {rate:.0f} GFLOP/s")
        rows = [
            (name, f"{median * 1e3:.0f}", f"{BATCH / median:.1f}", f"{memory[name]:.1f}")
            for name, median in medians.items()
        ]
        print(console.table(("", "ms", "images/s", "peak GB"), rows))
        ratios = ", ".join(f"{name} {medians[PEER] / medians[name]:.2f}" for name in WINDOWS)
        print(f"→ {ratios} × transformers' throughput\n", flush=True)


if __name__ == "__main__":
    main()
