"""Is the loader ever the bottleneck? Images per second of

* the loader alone, on 1,000 JPEGs of 500 × 375 at 224 px with the training augmentation,
* torchvision's ImageFolder and DataLoader with the same augmentation,
* training a ViT-S/16 on batches that are already in memory.

    python benchmarks/loader.py [--workers 2] [--images 1000] [--rounds 3]

All in one run, the loaders taking turns; the best round counts. Target: loader ≥ 3 × training.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from common import photo
from torch.utils.data import DataLoader

from vitrail import console
from vitrail.data import DataConfig, LoaderConfig, PreprocessConfig, SourceConfig, augmentation, open_data
from vitrail.tasks import classification
from vitrail.vit_presets import preset

BATCH_SIZE = 50
AUGMENTATIONS = ("light", "plain", "deit3")


def write_photos(folder: Path, num: int) -> None:
    for i in range(num):
        path = folder / f"class{i % 10}" / f"{i}.jpg"
        path.parent.mkdir(exist_ok=True)
        photo(i, 500, 375).save(path, quality=90)


def ours(folder: Path, name: str, workers: int) -> Callable[[int], Iterable[Any]]:
    config = DataConfig(
        source=SourceConfig(spec=str(folder), val_fraction=0),
        preprocess=PreprocessConfig(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)),
        augment=augmentation(name),
        loader=LoaderConfig(batch_size=BATCH_SIZE, workers=workers),
    )
    return open_data(config).train_loader().batches


def torchvisions(folder: Path, name: str, workers: int) -> Callable[[int], Iterable[Any]]:
    from torchvision import transforms
    from torchvision.datasets import ImageFolder
    from torchvision.transforms import v2

    config = augmentation(name)
    steps: list[Any] = [
        transforms.RandomResizedCrop(224, config.area, config.aspect),
        transforms.RandomHorizontalFlip(),
    ]
    if config.policy == "randaugment_tf":
        steps.append(transforms.RandAugment(2, 30, interpolation=transforms.InterpolationMode.BILINEAR))
    if config.policy == "three":
        solarize, blur = transforms.RandomSolarize(128, 1.0), transforms.GaussianBlur(9, (0.1, 2.0))
        steps.append(transforms.RandomChoice([transforms.Grayscale(3), solarize, blur]))
    if any(config.colour.jitter):
        steps.append(transforms.ColorJitter(*config.colour.jitter))
    steps += [transforms.ToTensor(), transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))]
    loader: DataLoader[Any] = DataLoader(
        ImageFolder(folder, transforms.Compose(steps)),
        batch_size=BATCH_SIZE,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=workers > 0,
    )
    mixup = v2.MixUp(alpha=0.2, num_classes=10)
    return lambda _: (mixup(*batch) if config.mix.mixup else batch for batch in loader)


def images_per_second(batches: Iterable[Any], num: int) -> float:
    started = time.perf_counter()
    for _ in batches:
        pass
    return num / (time.perf_counter() - started)


def training(precision: str, batch_size: int = 32, steps: int = 4) -> float:
    """Images per second of S/16 with AdamW, forward, backward and update."""
    torch.manual_seed(0)
    classes = tuple(f"class{i}" for i in range(1000))
    task = classification.Task(classification.Config(model=preset("S/16"), classes=classes))
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4, fused=True)
    batch = {"images": torch.randn(batch_size, 3, 224, 224), "targets": torch.randint(1000, (batch_size,))}
    best = 0.0
    for _ in range(steps):
        started = time.perf_counter()
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
            loss = task.loss(batch)["loss"]
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        best = max(best, batch_size / (time.perf_counter() - started))
    return best


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    warnings.filterwarnings("ignore", "This DataLoader will create")
    trained = {precision: training(precision) for precision in ("fp32", "bf16")}
    rows = []
    with tempfile.TemporaryDirectory() as name:
        write_photos(Path(name), options.images)
        num = options.images // BATCH_SIZE * BATCH_SIZE
        for augment in AUGMENTATIONS:
            loaders = {make: make(Path(name), augment, options.workers) for make in (ours, torchvisions)}
            best = dict.fromkeys(loaders, 0.0)
            for epoch in range(options.rounds + 1):  # the first one starts the workers
                for make, batches in loaders.items():
                    speed = images_per_second(batches(epoch), num)
                    best[make] = max(best[make], speed if epoch else 0.0)
            mine, theirs = best.values()
            ratios = [mine / theirs, *(mine / speed for speed in trained.values())]
            rows.append([augment, f"{mine:.0f}", f"{theirs:.0f}", *(f"{ratio:.2f}" for ratio in ratios)])
    speeds = ", ".join(f"{precision} {speed:.1f}" for precision, speed in trained.items())
    print(f"training S/16 at 224 px, images/s: {speeds} ({torch.get_num_threads()} threads)")
    print(f"loaders with {options.workers} workers, images/s, and ratios of ours:")
    columns = ["augmentation", "ours", "torchvision", "× torchvision", "× training fp32", "× training bf16"]
    print(console.table(columns, rows))


if __name__ == "__main__":
    main()
