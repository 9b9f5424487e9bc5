"""Handwritten digits on a canvas, embedded in scikit-learn: a class for every pixel, from scratch.

    vitrail train --recipe digit_scenes_segmentation --seed 0

40 epochs and the report took 9 min 49 s on two cores. On the 400 test scenes the mean IoU is 78.0 %, the accuracy of
pixels 97.0 % (seed 0).
"""

from __future__ import annotations

from vitrail.data import DataConfig, LoaderConfig, PreprocessConfig, SourceConfig
from vitrail.data.transforms.scene import SCENE_PRESETS
from vitrail.nn.conv_stem import ConvStemConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit import ViTConfig


def run() -> Run:
    """ViTMatte's decoder on 8×8 tokens: strokes are two pixels wide, so their edges come from the pixels themselves."""
    return Run(
        task="segmentation",
        task_options={"decoder": "detail", "hidden": 16, "coarse": 1.0},
        data=DataConfig(
            source=SourceConfig(spec="digit_scenes", kind="semantic", val_fraction=0),
            preprocess=PreprocessConfig(size=(64, 64), channels=1),
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
        optimizer=OptimizerConfig(lr=2e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup_epochs=2),
        epochs=40,
        precision="fp32",
    )
