"""Handwritten digits found on a canvas, embedded in scikit-learn: object detection from scratch.

    vitrail train --recipe digit_scenes --seed 0

30 epochs and the report took 5 min 43 s of processor time in one thread. On the 400 test scenes AP at IoU 0.50 is
96.3 %, AP 73.5 % (seed 0).
"""

from __future__ import annotations

from vitrail.data import DataConfig, LoaderConfig, SourceConfig
from vitrail.data.transforms.scene_config import SCENE_PRESETS
from vitrail.nn.conv_stem import ConvStemConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit import ViTConfig


def run() -> Run:
    """Two-stage DETR on 8×8 tokens of a conv stem. Noised queries would cost more steps than they save here."""
    return Run(
        task="detection",
        task_options={
            "decoder": {"dim": 96, "depth": 2, "heads": 3, "mlp_dim": 192, "num_queries": 12},
            "denoising": None,
            "threshold": 0.35,
        },
        data=DataConfig(
            source=SourceConfig(spec="digit_scenes", kind="boxes", val_fraction=0),
            scenes=SCENE_PRESETS["digits"],
            loader=LoaderConfig(batch_size=32, workers=0),
        ),
        model=ViTConfig(
            image_size=(64, 64),
            channels=1,
            patch_size=(8, 8),
            embed=ConvStemConfig(),
            dim=96,
            depth=4,
            heads=3,
            mlp_dim=192,
            positions="sincos_2d",
            class_token=False,
        ),
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup=2 / 30),
        epochs=30,
        precision="fp32",
    )
