"""Handwritten digits, 8×8 pixels, embedded in scikit-learn: the demo.

    vitrail train --recipe digits --seed 0

100 epochs and the report take 57 s on 2 cores of a CPU. Test accuracy of seeds 0, 1, 2: 100.00, 99.17, 99.17 %.
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, MixConfig, SourceConfig
from vitrail.data.transforms.batched import AffineConfig
from vitrail.nn.block import BlockConfig
from vitrail.nn.conv_stem import ConvStemConfig
from vitrail.train.ema import EmaConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit import ViTConfig


def run() -> Run:
    """A mean-pooled ViT on 4×4 tokens of a conv stem, with gentle affine augmentation and mixup."""
    return Run(
        data=DataConfig(
            source=SourceConfig(spec="digits", val_fraction=0),
            augment=AugmentConfig(
                affine=AffineConfig(degrees=10, translate=0.1, scale=(0.9, 1.1), shear=5), mix=MixConfig(mixup=0.2)
            ),
            loader=LoaderConfig(batch_size=64, workers=0),
        ),
        model=ViTConfig(
            image_size=(8, 8),
            channels=1,
            patch_size=(2, 2),
            embed=ConvStemConfig(),
            dim=64,
            depth=4,
            heads=4,
            mlp_dim=128,
            block=BlockConfig(mlp="swiglu"),
            positions="sincos_2d",
            class_token=False,
        ),
        optimizer=OptimizerConfig(lr=3e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup=5 / 100),
        epochs=100,
        ema=EmaConfig(decay=0.99),
        precision="fp32",
    )
