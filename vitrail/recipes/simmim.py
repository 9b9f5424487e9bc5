"""SimMIM pretraining as published (Xie et al. 2022, section 4.1.2), ViT-B/16.

    vitrail pretrain images/ --method simmim

The paper's batch is 2048 (``--batch-size 2048``); the learning rate follows the batch, and falls to a tenth after 700
epochs, as in the authors' configuration of ViT-B. Their ViT has BEiT's relative positions and LayerScale besides; this
one is plain. Published, not measured here: 83.8 % of ImageNet after fine-tuning.
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, SourceConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Crops of 67 to 100 % and flips; 60 % of the image hidden in squares of 32 pixels."""
    return Run(
        task="simmim",
        data=DataConfig(
            source=SourceConfig(spec="images", val_fraction=0.02),
            augment=AugmentConfig(crop="resized", area=(0.67, 1.0), horizontal_flip=0.5),
            loader=LoaderConfig(batch_size=256),
        ),
        model=preset("B/16"),
        optimizer=OptimizerConfig(base_lr=5e-5, weight_decay=0.05),
        schedule=ScheduleConfig(name="step", warmup=10 / 800, drops=(700 / 800,)),
        epochs=800,
        clip=5.0,
    )
