"""Masked patch prediction as in the ViT paper (Dosovitskiy et al. 2021, appendix B.1.2), ViT-B/16.

    vitrail pretrain images/ --method masked_patch

The paper trains on JFT-300M, and finds that 100,000 steps at a batch of 4096 do, on ImageNet too: 320 epochs of
ImageNet, of which the 10,000 steps of warmup are 32. The learning rate is the one for that batch (``--batch-size
4096``) and does not follow it. Crops, clipping and the lack of weight decay are ours: the paper does not give its own.
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, SourceConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Crops of 20 to 100 % and flips; half of the patches corrupted."""
    return Run(
        task="masked_patch",
        data=DataConfig(
            source=SourceConfig(spec="images", val_fraction=0.02),
            augment=AugmentConfig(crop="resized", area=(0.2, 1.0), horizontal_flip=0.5),
            loader=LoaderConfig(batch_size=256),
        ),
        model=preset("B/16"),
        optimizer=OptimizerConfig(name="adam", lr=2e-4, weight_decay=0.0),
        schedule=ScheduleConfig(warmup=32 / 320),
        epochs=320,
        clip=1.0,
    )
