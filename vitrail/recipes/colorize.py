"""Colourisation (Zhang et al. 2016, "Colorful image colorization"), ViT-B/16.

    vitrail pretrain images/ --method colorize

Targets are the paper's: 313 colours for every 4 × 4 pixels, softly encoded, rare ones counting more. It trains
convolutional networks; the optimizer's settings here are those of a ViT (Touvron et al. 2021, DeiT), and the learning
rate follows the batch. ``--set task_options.target=regression`` learns the two numbers of each pixel instead.
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, SourceConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Crops of 20 to 100 % and flips, the colours untouched."""
    return Run(
        task="colorize",
        data=DataConfig(
            source=SourceConfig(spec="images", val_fraction=0.02),
            augment=AugmentConfig(crop="resized", area=(0.2, 1.0), horizontal_flip=0.5),
            loader=LoaderConfig(batch_size=256),
        ),
        model=preset("B/16"),
        optimizer=OptimizerConfig(base_lr=2.5e-4, weight_decay=0.05),
        schedule=ScheduleConfig(warmup=5 / 300),
        epochs=300,
        clip=1.0,
    )
