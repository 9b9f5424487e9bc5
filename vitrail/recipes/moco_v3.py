"""MoCo v3 pretraining as published (Chen, Xie and He 2021, section 5 and appendix A), ViT-B/16.

    vitrail pretrain images/ --method moco_v3

The paper's batch is 4096 (``--batch-size 4096``); the learning rate follows the batch. The authors' code also decays
biases, norms and tokens. Published, not measured here: 76.7 % of ImageNet by a linear probe.
"""

from __future__ import annotations

from dataclasses import replace

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, SourceConfig, ViewConfig
from vitrail.data.transforms.colour import ColourConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Two views by the augmentation of BYOL: crops of 8 to 100 %, flips, colour jitter, grey; one always blurred, the
    other seldom, and sometimes solarised."""
    colour = ColourConfig(jitter=(0.4, 0.4, 0.2, 0.1), jitter_probability=0.8, grey=0.2, blur=1.0)
    one = AugmentConfig(crop="resized", area=(0.08, 1.0), colour=colour, horizontal_flip=0.5)
    other = replace(one, colour=replace(colour, blur=0.1, solarise=0.2))
    return Run(
        task="moco_v3",
        data=DataConfig(
            source=SourceConfig(spec="images", val_fraction=0.02),
            views=(ViewConfig(augment=one), ViewConfig(augment=other)),
            loader=LoaderConfig(batch_size=256),
        ),
        model=preset("B/16", positions="sincos_2d"),
        optimizer=OptimizerConfig(base_lr=1.5e-4, weight_decay=0.1),
        schedule=ScheduleConfig(warmup=40 / 300),
        epochs=300,
        clip=None,
    )
