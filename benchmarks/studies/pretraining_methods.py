"""What does pretraining buy where labels are few? Every method on Fashion-MNIST, one table.

    python benchmarks/studies/pretraining_methods.py DATA [--methods scratch mae …] [--labels 0.01 0.1] [--out DIR]

DATA is Fashion-MNIST in any form that ``vitrail train`` reads. Each method learns from the 60,000 training pictures
without labels, once; then the same small ViT is fine-tuned from it, and from scratch, on the same few labels with the
same settings, by several seeds that also choose the labelled pictures. Beside that, nearest neighbours and a linear
probe on all labels measure the frozen features. Everything is measured on the 10,000 test pictures. Runs that are
complete are not repeated, so the script can be interrupted; ``--table`` only prints what is there.
"""

from __future__ import annotations

import argparse
import json
import statistics
from dataclasses import replace
from pathlib import Path
from typing import Any

import vitrail
from vitrail import console
from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, PreprocessConfig, SourceConfig, ViewConfig
from vitrail.data.transforms.colour import ColourConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit import ViTConfig

MODEL = ViTConfig(
    image_size=(28, 28), channels=1, patch_size=(7, 7), dim=96, depth=4, heads=3, mlp_dim=384, class_token=False,
    positions="sincos_2d",
)  # fmt: skip
CROP = AugmentConfig(crop="window", area=(0.4, 1.0), horizontal_flip=0.5)
STRONG = replace(CROP, area=(0.2, 1.0), colour=ColourConfig(jitter=(0.4, 0.4, 0, 0), jitter_probability=0.8))
PAIR = (ViewConfig(augment=STRONG, count=2),)
CROPS = (
    ViewConfig(augment=replace(STRONG, area=(0.4, 1.0)), count=2),
    ViewConfig(augment=replace(STRONG, area=(0.15, 0.5)), count=4, scale=0.5, multiple=7),
)
DECODER = {"decoder_dim": 64, "decoder_depth": 2, "decoder_heads": 4, "decoder_mlp_dim": 256}
DISTILLATION = {
    "num_prototypes": 1024, "hidden_dim": 512, "bottleneck_dim": 128, "momentum": 0.99,
    "teacher_temperature": (0.04, 0.04),
}  # fmt: skip
PROJECTOR = {"hidden_dim": 512, "output_dim": 128}
# epochs, learning rate of 256 images, options of the method, views
METHODS: dict[str, tuple[int, float, dict[str, Any], tuple[ViewConfig, ...]]] = {
    "mae": (40, 3e-3, DECODER, ()),
    "simmim": (20, 3e-3, {"mask_size": 7}, ()),
    "masked_patch": (12, 3e-3, {}, ()),
    "rotation": (3, 2e-3, {}, ()),
    "dino": (16, 4e-3, DISTILLATION, CROPS),
    "ibot": (4, 4e-3, DISTILLATION, CROPS),
    "simclr": (8, 3e-3, {"temperature": 0.2, **PROJECTOR}, PAIR),
    "moco_v3": (8, 3e-3, PROJECTOR, PAIR),
}
BATCH = 128


def data(source: str, **more: Any) -> DataConfig:
    """Grey pictures of 28 px, in memory."""
    preprocess = PreprocessConfig(size=(28, 28), channels=1, mean=(0.286,), std=(0.353,))
    loader = LoaderConfig(batch_size=more.pop("batch_size", BATCH), workers=more.pop("workers", 0), cache=True)
    settings = {name: more.pop(name) for name in ("augment", "views") if name in more}
    return DataConfig(source=SourceConfig(spec=source, **more), preprocess=preprocess, loader=loader, **settings)


def pretraining(method: str, source: str) -> Run:
    """The run of a method."""
    epochs, base_lr, options, views = METHODS[method]
    seen = {"views": views} if views else {"augment": CROP if method != "rotation" else AugmentConfig(shift=2)}
    return Run(
        task=method,
        task_options=options,
        data=data(source, labelled="auto", val_fraction=0.02, **seen),
        model=MODEL,
        optimizer=OptimizerConfig(base_lr=base_lr, weight_decay=0.05, betas=(0.9, 0.95)),
        schedule=ScheduleConfig(warmup_epochs=1),
        epochs=epochs,
        clip=1.0,
        precision="bf16",
        evaluate_every=5,
    )


def tuning(source: str, share: float, seed: int, init: Path | None) -> Run:
    """The same fine-tuning for all, with the rate that suits scratch best: 60,000 pictures are seen, or 15 epochs."""
    return Run(
        task="classification",
        task_options={"pool": "mean", "label_smoothing": 0.1},
        init=None if init is None else str(init),
        data=data(
            source, val_fraction=0, train_fraction=share, split_seed=seed, batch_size=64,
            augment=AugmentConfig(horizontal_flip=0.5, shift=2),
        ),
        model=MODEL,
        optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.05, layer_decay=0.75 if init else 1.0),
        schedule=ScheduleConfig(),
        epochs=max(round(1 / share), 15),
        seed=seed,
        precision="bf16",
    )  # fmt: skip


def complete(run: Run, folder: Path) -> dict[str, Any]:
    """The summary of the run, which is trained if it has not been."""
    if not (folder / "summary.json").exists():
        vitrail.fit(run, folder)
    found: dict[str, Any] = json.loads((folder / "summary.json").read_text())
    return found


def accuracy(folder: Path, source: str) -> float:
    """On the test pictures; measured once."""
    kept = folder / "test.json"
    if not kept.exists():
        from vitrail.report.evaluated import measure

        measured = measure(vitrail.load(folder), SourceConfig(spec=source), "test", progress=False)
        kept.write_text(json.dumps(measured.evaluation.metrics))
    return float(json.loads(kept.read_text())["top1"])


def probed(folder: Path, source: str, method: str) -> float:
    """Accuracy of a probe on the frozen features; measured once."""
    kept = folder / f"probe-{method}.json"
    if not kept.exists():
        from vitrail.probe import probe

        kept.write_text(json.dumps(probe(vitrail.load(folder), source, method).scores[0].accuracy))
    return float(json.loads(kept.read_text()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--methods", nargs="+", choices=("scratch", *METHODS), default=["scratch", *METHODS])
    parser.add_argument("--labels", nargs="+", type=float, default=[0.01, 0.1])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("runs/methods"))
    parser.add_argument("--table", action="store_true", help="train nothing; print what is there")
    options = parser.parse_args()
    rows = []
    for method in options.methods:
        folder, row = options.out / method, [method]
        if method == "scratch":
            row += ["–", "–", "–"]
        elif (folder / "summary.json").exists() or not options.table:
            summary = complete(pretraining(method, options.data), folder)
            row += [console.duration(summary["training_seconds"])]
            row += [f"{probed(folder, options.data, name):.2%}" for name in ("knn", "linear")]
        else:
            continue
        for share in options.labels:
            found = []
            for seed in range(options.seeds):
                place = options.out / f"{method}-{share}-{seed}"
                if (place / "summary.json").exists() or not options.table:
                    complete(tuning(options.data, share, seed, None if method == "scratch" else folder), place)
                    found.append(100 * accuracy(place, options.data))
            spread = f" ± {statistics.stdev(found):.2f}" if len(found) > 1 else ""
            row.append(f"{statistics.mean(found):.2f}{spread} ({len(found)})" if found else "–")
        rows.append(row)
        print(
            console.table(("", "pretraining", "kNN", "linear", *(f"{s:.0%} of labels" for s in options.labels)), rows)
        )


if __name__ == "__main__":
    main()
