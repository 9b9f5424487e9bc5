"""DeiT III on ImageNet-1k (Touvron, Cord and Jégou 2022, "Revenge of the ViT", table 1, authors' command), ViT-S/16.

    vitrail train imagenet/ --recipe deit3_s16_in1k --processes 8

Cost: 800 epochs are 2.8e19 floating point operations. Published, not measured here: 81.4 % top-1. The clipping is the
one of the authors' optimizer (apex's LAMB). Initial weights are Vitrail's own.
"""

from __future__ import annotations

import dataclasses

from vitrail.data import DataConfig, LoaderConfig, SourceConfig, augmentation
from vitrail.nn.block import BlockConfig
from vitrail.recipes.deit_s16_in1k import PREPROCESS
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """3-Augment, mixup and CutMix on images that come three times each; LAMB, one sigmoid a class, LayerScale."""
    return Run(
        task="classification",
        task_options={"loss": "bce"},
        data=DataConfig(
            source=SourceConfig(spec="imagenet"),
            preprocess=dataclasses.replace(PREPROCESS, crop_pct=1.0),
            augment=augmentation("deit3"),
            loader=LoaderConfig(batch_size=2048),
        ),
        model=preset(
            "S/16",
            class_position=False,
            block=BlockConfig(layer_scale=1e-4, drop_path=0.05, drop_path_uniform=True),
        ),
        optimizer=OptimizerConfig(name="lamb", lr=4e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup=5 / 800, final=1e-5 / 4e-3),
        epochs=800,
        clip=1.0,
    )
