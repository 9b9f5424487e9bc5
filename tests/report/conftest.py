"""Tiny runs of each task, trained once."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, PreprocessConfig, SourceConfig
from vitrail.data.transforms.mix import MixConfig
from vitrail.train.loop import fit
from vitrail.train.run import Run
from vitrail.vit import ViTConfig

CLASSES = ("<b>cat & dog</b>", "猫", "$5_bill$")


@pytest.fixture(scope="session")
def pictures(tmp_path_factory) -> Path:
    """36 noise pictures 20×16 whose brightness tells their class, with tables for all three tasks."""
    folder = tmp_path_factory.mktemp("pictures")
    random = np.random.default_rng(0)
    tables = {"class": [["path", "label"]], "multilabel": [["path", "labels"]], "number": [["path", "light", "dark"]]}
    for i in range(36):
        label = i % 3
        pixels = random.integers(80 * label, 80 * label + 90, (16, 20, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{i}.png")
        several = CLASSES[label] + (f"|{CLASSES[(label + 1) % 3]}" if i % 2 else "")
        for name, cells in (
            ("class", [CLASSES[label]]),
            ("multilabel", [several]),
            ("number", [label + 0.5, -7.5 * label]),
        ):
            tables[name].append([f"{i}.png", *cells])
    for name, rows in tables.items():
        with (folder / f"{name}.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows(rows)
    return folder


def train(pictures: Path, folder: Path, table: str, task: str, **source) -> Path:
    size = (16, 16)
    run = Run(
        task=task,
        data=DataConfig(
            source=SourceConfig(spec=str(pictures / f"{table}.csv"), val_fraction=0.5, **source),
            preprocess=PreprocessConfig(size=size),
            augment=AugmentConfig(horizontal_flip=0.5, mix=MixConfig(mixup=0.2 if task == "classification" else 0)),
            loader=LoaderConfig(batch_size=6, workers=0),
        ),
        model=ViTConfig(image_size=size, patch_size=8, dim=16, depth=2, heads=2, mlp_dim=16),
        epochs=2,
        precision="fp32",
        device="cpu",
    )
    fit(run, folder)
    return folder


@pytest.fixture(scope="session")
def runs(pictures, tmp_path_factory) -> dict[str, Path]:
    """Run folders by task."""
    folder = tmp_path_factory.mktemp("runs")
    return {
        "classification": train(pictures, folder / "classification", "class", "classification"),
        "multilabel": train(pictures, folder / "multilabel", "multilabel", "multilabel", label_separator="|"),
        "regression": train(pictures, folder / "regression", "number", "regression", label_columns=("light", "dark")),
    }
