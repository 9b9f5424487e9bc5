"""What does a training step of a detector cost, beside transformers' YOLOS of the same backbone?

    python benchmarks/detection.py [--precisions fp32 bf16] [--rounds 7] [--size 320] [--batch 8]

Ti/16, 100 queries (YOLOS: detection tokens), 7 objects an image; forward, matching, loss and backward, in processes
that take turns. Ours has a decoder of 3 layers of 192 on top, proposals, and losses of every layer; YOLOS has neither.
"windows" is ours with attention in windows of 10 × 10 patches in 8 of the 12 blocks (ViTDet), which is for large images
such as 640 px. All processes keep freed memory as ``vitrail train`` does.

Goal: ≥ 1.2 × transformers' throughput.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable
from types import SimpleNamespace
from typing import TypeAlias

import torch
from common import backward_step
from matmul import matmul_rate
from torch import Tensor, nn
from turns import Step, take_turns

from vitrail import console
from vitrail.nn.detr_decoder import DecoderConfig
from vitrail.nn.windows import WindowConfig
from vitrail.ops.boxes import cxcywh_to_xyxy
from vitrail.tasks import detection
from vitrail.train.allocator import keep_freed_memory
from vitrail.vit import ViTConfig
from vitrail.vit_presets import preset

Loss: TypeAlias = Callable[[], Tensor]
OBJECTS, QUERIES, CLASSES = 7, 100, 80
WINDOWS = {"vitrail": None, "vitrail, windows": WindowConfig(size=10)}
PEER = "transformers"


def build_step(candidate: str, dtype: str, size: int, batch: int) -> Step:
    """What one candidate repeats."""
    keep_freed_memory()
    torch.manual_seed(0)
    model = preset("Ti/16", image_size=size, positions="sincos_2d")
    images = torch.randn(batch, 3, size, size)
    boxes = torch.cat((torch.rand(batch, OBJECTS, 2) * 0.5 + 0.25, torch.rand(batch, OBJECTS, 2) * 0.4 + 0.05), dim=2)
    labels = torch.randint(CLASSES, (batch, OBJECTS))
    if candidate == PEER:
        module, loss = _transformers(model, images, boxes, labels)
    else:
        module, loss = _vitrail(model, images, boxes, labels, WINDOWS[candidate])
    return backward_step(module, loss, dtype)


def _vitrail(
    model: ViTConfig, images: Tensor, boxes: Tensor, labels: Tensor, window: WindowConfig | None
) -> tuple[nn.Module, Loss]:
    pairs = zip(cxcywh_to_xyxy(boxes) * images.shape[-1], labels, strict=True)
    targets = [SimpleNamespace(boxes_xyxy=each, labels=own) for each, own in pairs]
    decoder = DecoderConfig(dim=model.dim, depth=3, heads=model.heads, mlp_dim=768, num_queries=QUERIES)
    names = tuple(map(str, range(CLASSES)))
    config = detection.Config(model=model, classes=names, decoder=decoder, denoising=None, window=window)
    task = detection.Task(config)
    return task, lambda: task.loss({"images": images, "targets": targets})["loss"]


def _transformers(model: ViTConfig, images: Tensor, boxes: Tensor, labels: Tensor) -> tuple[nn.Module, Loss]:
    from transformers import YolosConfig, YolosForObjectDetection

    yolos = YolosForObjectDetection(
        YolosConfig(
            hidden_size=model.dim,
            num_hidden_layers=model.depth,
            num_attention_heads=model.heads,
            intermediate_size=model.mlp_dim,
            image_size=model.image_size,
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
    parser.add_argument("--size", type=int, default=320, help="pixels a side")
    parser.add_argument("--batch", type=int, default=8)
    options = parser.parse_args()
    for dtype in options.precisions:
        names = (*WINDOWS, PEER)
        steps = {name: (build_step, (name, dtype, options.size, options.batch)) for name in names}
        seconds, memory = take_turns(steps, options.rounds)
        medians = {name: statistics.median(taken) for name, taken in seconds.items()}
        rate = matmul_rate(dtype) / 1e9
        print(f"detection, Ti/16 at {options.size} px, {dtype}, batch {options.batch}; matmul {rate:.0f} GFLOP/s")
        rows = [
            (name, f"{median * 1e3:.0f}", f"{options.batch / median:.1f}", f"{memory[name]:.1f}")
            for name, median in medians.items()
        ]
        print(console.table(("", "ms", "images/s", "peak GB"), rows))
        ratios = ", ".join(f"{name} {medians[PEER] / medians[name]:.2f}" for name in WINDOWS)
        print(f"→ {ratios} × transformers' throughput\n", flush=True)


if __name__ == "__main__":
    main()
