"""A collapse is said, once."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from vitrail.data import DataConfig, LoaderConfig, PreprocessConfig, SourceConfig
from vitrail.pretrain import simmim
from vitrail.train.loop import fit
from vitrail.train.run import Run
from vitrail.vit import ViTConfig


@pytest.mark.parametrize(
    ("means", "said"),
    [
        ({"loss": 1.0}, None),
        ({"feature_std": 0.5, "teacher_entropy": 0.7}, None),
        ({"feature_std": 0.01}, "all images have nearly the same features (feature_std 0.01)"),
        ({"feature_std": 0.9, "teacher_entropy": 0.001}, "gives one output for all images"),
        ({"feature_std": 0.9, "teacher_entropy": 0.9999}, "gives equal outputs for all images"),
    ],
)
def test_what_counts_as_a_collapse(means: dict[str, float], said: str | None) -> None:
    model = ViTConfig(image_size=8, patch_size=4, dim=16, depth=1, heads=2, mlp_dim=32)
    complaint = simmim.Task(simmim.Config(model=model, mask_size=4)).diagnose(means)
    assert complaint is None if said is None else said in str(complaint)


def test_it_is_said_once_and_not_after_the_first_epoch(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    np.savez(tmp_path / "x.npz", images=np.random.default_rng(0).integers(0, 256, (16, 8, 8), np.uint8))
    loss = simmim.Task.loss
    monkeypatch.setattr(simmim.Task, "loss", lambda *a: loss(*a) | {"feature_std": torch.tensor(0.001)})
    run = Run(
        task="simmim",
        task_options={"mask_size": 4},
        data=DataConfig(
            source=SourceConfig(spec=str(tmp_path / "x.npz"), labelled=False),
            preprocess=PreprocessConfig(size=(8, 8), channels=1),
            loader=LoaderConfig(batch_size=8, workers=0),
        ),
        model=ViTConfig(image_size=8, channels=1, patch_size=4, dim=16, depth=1, heads=2, mlp_dim=32),
        epochs=4,
        device="cpu",
        precision="fp32",
    )
    fit(run, tmp_path / "run")
    said = capsys.readouterr().err
    assert said.count("seems to collapse") == 1
    assert said.index("epoch 1/4") < said.index("seems to collapse") < said.index("epoch 2/4")
