"""A plain ViT on ImageNet-1k (Beyer, Zhai and Kolesnikov 2022, "Better plain ViT baselines for ImageNet-1k"), ViT-S/16.

    vitrail train imagenet/ --recipe vit_s16_in1k --processes 8

The settings of big_vision's ``vit_s16_i1k``. The warmup is 10,000 steps (8 epochs) however long the training is.
Cost: 90 epochs are 3.2e18 floating point operations, 6 to 7 hours of a TPU v3-8 by the authors. Published, not measured
here, top-1 after 90, 150 and 300 epochs (``--epochs 300``): 76.5, 78.5 and 80.0 %.
"""

from __future__ import annotations

from vitrail.data import DataConfig, LoaderConfig, PreprocessOptions, SourceConfig, augmentation
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Mean of the patches, fixed positions, a head with a hidden layer; RandAugment and a little mixup."""
    return Run(
        task="classification",
        task_options={"head": {"hidden": 384}},
        data=DataConfig(
            source=SourceConfig(spec="imagenet"),
            preprocess=PreprocessOptions(resize="crop", crop_pct=0.875),
            augment=augmentation("plain"),
            loader=LoaderConfig(batch_size=1024),
        ),
        model=preset("S/16", positions="sincos_2d", class_token=False),
        optimizer=OptimizerConfig(lr=1e-3, weight_decay=0.1),
        schedule=ScheduleConfig(warmup_epochs=8),
        epochs=90,
        clip=1.0,
    )
