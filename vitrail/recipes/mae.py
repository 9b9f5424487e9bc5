"""MAE pretraining as published (He et al. 2022, table 8), ViT-B/16.

    vitrail pretrain images/ --method mae

The paper's batch is 4096 (``--batch-size 4096``); the learning rate follows the batch. The decoder, 512 wide and 8
deep, is meant for ViT-B and larger: for a small model give it less, as in ``--set task_options.decoder_dim=256``.
Published, not measured here: 83.3 % of ImageNet after fine-tuning, 83.6 % after 1600 epochs.
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, PreprocessOptions, SourceConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Crops of 20 to 100 % and flips alone; 75 % of the patches hidden."""
    return Run(
        task="mae",
        data=DataConfig(
            source=SourceConfig(spec="images", val_fraction=0.02),
            preprocess=PreprocessOptions(interpolation="bicubic"),
            augment=AugmentConfig(crop="resized", area=(0.2, 1.0), horizontal_flip=0.5),
            loader=LoaderConfig(batch_size=256),
        ),
        model=preset("B/16", positions="sincos_2d"),
        optimizer=OptimizerConfig(base_lr=1.5e-4, betas=(0.9, 0.95), weight_decay=0.05),
        schedule=ScheduleConfig(warmup=40 / 800),
        epochs=800,
        clip=None,
    )
