"""Fine-tuning without settings, against the settings that users of other libraries begin with, at equal wall time.

    python benchmarks/studies/finetuning.py DATA WEIGHTS [--seeds 3] [--shares 1 0.3 0.1] [--methods good …] [--out DIR]

DATA has the splits train and test, with one class an image; WEIGHTS is a ViT of timm's names. ``fast``, ``good`` and
``best`` are ``vitrail train DATA --init WEIGHTS --quality …`` as a user types it. The others learn from the same
training images for as long as ``good`` took for the same seed and share, process start included:

- ``trainer``: transformers' model with the settings of its Trainer and its image-classification example: AdamW at
  5e-5 without weight decay, linear to zero, batches of 8, crops of 8 to 100 %, mirrored; written out, since the Trainer
  needs a package more.
- ``timm``: timm's model, augmentation (crops, mirrored, colours by 0.4) and optimizer: AdamW at 1e-4, weight decay
  0.05, layer decay 0.75, cosine after a warmup of 5 %, batches of 16.

All of it takes hours; ``--methods good trainer timm --shares 1 --seeds 1`` takes three trainings. Everything is
measured on the test pictures. What is complete in DIR is not repeated, so the script can be interrupted.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vitrail import console
from vitrail.data import Source, SourceConfig, decode, open_source

OURS = ("fast", "good", "best")
BASELINES = ("trainer", "timm")


@dataclass(frozen=True)
class Baseline:
    """A model with its settings; ``classify`` makes logits, ``factor`` the share of the rate by that of the time."""

    model: nn.Module
    classify: Callable[[Tensor], Tensor]
    optimizer: torch.optim.Optimizer
    factor: Callable[[float], float]
    training: Callable[[Any], Tensor]
    inference: Callable[[Any], Tensor]
    batch_size: int


def trainer(weights: Path, num_classes: int, out: Path) -> Baseline:
    """As in examples/pytorch/image-classification of transformers."""
    from torchvision.transforms import v2
    from transformers import AutoModelForImageClassification

    from vitrail.conversion import convert

    folder = out / "huggingface"
    if not (folder / "config.json").exists():
        convert(weights, folder, to="huggingface")
    model = AutoModelForImageClassification.from_pretrained(
        folder, num_labels=num_classes, ignore_mismatched_sizes=True, attn_implementation="sdpa"
    )
    finish = [v2.PILToTensor(), v2.ToDtype(torch.float32, scale=True), v2.Normalize([0.5] * 3, [0.5] * 3)]
    return Baseline(
        model=model,
        classify=lambda images: model(images).logits,
        optimizer=torch.optim.AdamW(model.parameters(), lr=5e-5, weight_decay=0.0),
        factor=lambda progress: 1 - progress,
        training=v2.Compose([v2.RandomResizedCrop(224), v2.RandomHorizontalFlip(), *finish]),
        inference=v2.Compose([v2.Resize(224), v2.CenterCrop(224), *finish]),
        batch_size=8,
    )


def timm(weights: Path, num_classes: int, out: Path) -> Baseline:
    """timm's own functions, with the settings of its users."""
    from timm import create_model
    from timm.data import create_transform, resolve_data_config
    from timm.optim import create_optimizer_v2

    name, file = "vit_tiny_patch16_224.augreg_in21k_ft_in1k", str(weights)
    model = create_model(name, pretrained=True, num_classes=num_classes, pretrained_cfg_overlay={"file": file})
    config = resolve_data_config({}, model=model)
    shape = {key: config[key] for key in ("input_size", "mean", "std", "interpolation")}
    return Baseline(
        model=model,
        classify=model,
        optimizer=create_optimizer_v2(model, opt="adamw", lr=1e-4, weight_decay=0.05, layer_decay=0.75),
        factor=lambda p: p / 0.05 if p < 0.05 else 0.5 * (1 + math.cos(math.pi * (p - 0.05) / 0.95)),
        training=create_transform(is_training=True, color_jitter=0.4, **shape),
        inference=create_transform(is_training=False, crop_pct=config["crop_pct"], **shape),
        batch_size=16,
    )


def train(baseline: Baseline, source: Source, seconds: float, seed: int) -> None:
    """Steps until the time is over, of which the schedule is a function: a host's speed changes while it computes."""
    torch.manual_seed(seed)
    targets = torch.as_tensor(source.targets)
    peaks = [group["lr"] for group in baseline.optimizer.param_groups]
    baseline.model.train()
    size = min(baseline.batch_size, len(source))
    begun, order = time.perf_counter(), list[int]()
    while (progress := (time.perf_counter() - begun) / seconds) < 1:
        if len(order) < size:
            order = torch.randperm(len(source)).tolist()
        rows, order = order[:size], order[size:]
        images = torch.stack([baseline.training(decode(source.read(row), 3)) for row in rows])
        for group, peak in zip(baseline.optimizer.param_groups, peaks, strict=True):
            group["lr"] = peak * baseline.factor(progress) * group.get("lr_scale", 1.0)
        nn.functional.cross_entropy(baseline.classify(images), targets[rows]).backward()
        nn.utils.clip_grad_norm_(baseline.model.parameters(), 1.0)
        baseline.optimizer.step()
        baseline.optimizer.zero_grad()


@torch.inference_mode()
def accuracy(baseline: Baseline, source: Source) -> float:
    """On all images, in percent."""
    baseline.model.eval()
    right = 0
    for row, target in enumerate(source.targets):
        image = baseline.inference(decode(source.read(row), 3))
        right += int(baseline.classify(image[None]).argmax()) == int(target)
    return 100 * right / len(source)


def ours(options: argparse.Namespace, quality: str, share: float, seed: int) -> tuple[float, float]:
    """Accuracy on the test pictures in percent, and the seconds of the command."""
    folder = options.out / "runs" / f"{quality}-{share}-{seed}"
    part = ["--set", f"data.source.train_fraction={share}", "--set", f"data.source.split_seed={seed}"]
    command = [sys.executable, "-m", "vitrail", "train", options.data, "--init", str(options.weights), "--no-report"]
    started = time.perf_counter()
    name = ["--name", str(folder.resolve()), "--quality", quality, "--seed", str(seed)]
    subprocess.run([*command, *name, *part], check=True)
    seconds = time.perf_counter() - started
    evaluate = [sys.executable, "-m", "vitrail", "evaluate", str(folder), options.data, "--split", "test", "--json"]
    found = subprocess.run(evaluate, check=True, capture_output=True, text=True).stdout
    return 100 * json.loads(found)["metrics"]["top1"], seconds


def theirs(options: argparse.Namespace, method: str, share: float, seed: int, seconds: float) -> tuple[float, float]:
    """The same of a baseline, within so many seconds."""
    config = SourceConfig(spec=options.data, train_fraction=share, split_seed=seed)
    splits = open_source(config)
    torch.manual_seed(seed)
    baseline = {"trainer": trainer, "timm": timm}[method](options.weights, len(splits.classes), options.out)
    started = time.perf_counter()
    train(baseline, splits.split("train"), seconds, seed)
    spent = time.perf_counter() - started
    return accuracy(baseline, splits.split("test")), spent


def measured(options: argparse.Namespace, method: str, share: float, seed: int) -> tuple[float, float]:
    """Accuracy and seconds; from DIR where they are there already."""
    kept = options.out / f"{method}-{share}-{seed}.json"
    if not kept.exists():
        if method in OURS:
            found = ours(options, method, share, seed)
        else:
            found = theirs(options, method, share, seed, measured(options, "good", share, seed)[1])
        kept.write_text(json.dumps(found))
    top1, seconds = json.loads(kept.read_text())
    return float(top1), float(seconds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("weights", type=Path)
    parser.add_argument("--methods", nargs="+", choices=(*OURS, *BASELINES), default=[*OURS, *BASELINES])
    parser.add_argument("--shares", nargs="+", type=float, default=[1.0, 0.3, 0.1])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/finetuning"))
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for method in options.methods:
        row = [method]
        for share in options.shares:
            top1, seconds = zip(*(measured(options, method, share, seed) for seed in range(options.seeds)), strict=True)
            spread = f" ± {statistics.stdev(top1):.1f}" if len(top1) > 1 else ""
            row.append(f"{statistics.mean(top1):.1f}{spread} in {statistics.mean(seconds):.0f} s")
        rows.append(row)
        print(console.table(("", *(f"{share:.0%} of the images" for share in options.shares)), rows), flush=True)


if __name__ == "__main__":
    main()
