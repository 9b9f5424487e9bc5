"""Rotation prediction (Gidaris et al. 2018, RotNet), ViT-B/16.

    vitrail pretrain images/ --method rotation

All four rotations of every image are in each step, as in the paper, so a batch of 256 is 1024 images to the model;
``--set task_options.all_rotations=false`` takes one at random. The paper trains convolutional networks; the
optimizer's settings here are those of a ViT (Touvron et al. 2021, DeiT), and the learning rate follows the batch.
Leave vertical flips out: with a half turn one makes a horizontal flip, which looks upright.
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, SourceConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Crops of 20 to 100 % and horizontal flips."""
    return Run(
        task="rotation",
        data=DataConfig(
            source=SourceConfig(spec="images", val_fraction=0.02),
            augment=AugmentConfig(crop="resized", area=(0.2, 1.0), horizontal_flip=0.5),
            loader=LoaderConfig(batch_size=256),
        ),
        model=preset("B/16"),
        optimizer=OptimizerConfig(base_lr=2.5e-4, weight_decay=0.05),
        schedule=ScheduleConfig(warmup=5 / 100),
        epochs=100,
        clip=1.0,
    )
