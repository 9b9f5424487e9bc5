"""DeiT on ImageNet-1k (Touvron et al. 2021, "Training data-efficient image transformers", table 9), ViT-S/16.

    vitrail train imagenet/ --recipe deit_s16_in1k --processes 4

Other sizes have the same settings: ``--model Ti/16`` and ``--model B/16``. Cost: 300 epochs of S/16 are 1.1e19 floating
point operations. Published, not measured here: 72.2 % (Ti), 79.9 % (S) and 81.8 % (B) top-1. The paper's results are
those of the weights themselves; its code also averages them, as ``--set ema.decay=0.99996`` does. The learning rate
follows the batch. Initial weights are Vitrail's own.
"""

from __future__ import annotations

from vitrail.data import DataConfig, LoaderConfig, PreprocessOptions, SourceConfig, augmentation
from vitrail.nn.block import BlockConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset

PREPROCESS = PreprocessOptions(
    resize="crop",
    crop_pct=0.875,  # 256 pixels, and the 224 in the middle
    interpolation="bicubic",
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
)


def run() -> Run:
    """RandAugment, erasing, mixup and CutMix on images that come three times; label smoothing, stochastic depth."""
    return Run(
        task="classification",
        task_options={"label_smoothing": 0.1},
        data=DataConfig(
            source=SourceConfig(spec="imagenet"),
            preprocess=PREPROCESS,
            augment=augmentation("deit"),
            loader=LoaderConfig(batch_size=1024),
        ),
        model=preset("S/16", block=BlockConfig(drop_path=0.1)),
        optimizer=OptimizerConfig(base_lr=2.5e-4, weight_decay=0.05),
        schedule=ScheduleConfig(warmup=5 / 300, final=0.01),
        epochs=300,
        clip=None,
    )
