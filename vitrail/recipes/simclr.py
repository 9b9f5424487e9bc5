"""SimCLR pretraining, ViT-B/16: augmentation, temperature and projector as published (Chen et al. 2020, appendix A and
section 4.2); the paper trains a ResNet, so optimiser and schedule are those of MoCo v3 for a ViT (Chen et al. 2021).

    vitrail pretrain images/ --method simclr

The paper's batch is 4096 (``--batch-size 4096``); the learning rate follows the batch. With small batches a higher
temperature is better: ``--set task_options.temperature=0.5``.
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, PreprocessOptions, SourceConfig, ViewConfig
from vitrail.data.transforms.colour import ColourConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Two views alike: crops of 8 to 100 %, flips, colour jitter of strength 1, grey and blur."""
    colour = ColourConfig(jitter=(0.8, 0.8, 0.8, 0.2), jitter_probability=0.8, grey=0.2, blur=0.5)
    view = AugmentConfig(crop="resized", area=(0.08, 1.0), colour=colour, horizontal_flip=0.5)
    return Run(
        task="simclr",
        data=DataConfig(
            source=SourceConfig(spec="images", val_fraction=0.02),
            preprocess=PreprocessOptions(interpolation="bicubic"),
            views=(ViewConfig(augment=view, count=2),),
            loader=LoaderConfig(batch_size=256),
        ),
        model=preset("B/16", positions="sincos_2d"),
        optimizer=OptimizerConfig(base_lr=1.5e-4, weight_decay=0.1),
        schedule=ScheduleConfig(warmup=40 / 300),
        epochs=300,
        clip=None,
    )
