"""DINO pretraining as published (Caron et al. 2021, section 3.2 and appendix C), ViT-S/16.

    vitrail pretrain images/ --method dino

The paper's batch is 1024 (``--batch-size 1024``); the learning rate follows the batch. As the authors do for ViT-S, the
prototypes learn their lengths, which is not stable for larger models: ``--set task_options.normalise_prototypes=true``.
Their own run of 100 epochs normalises too, and keeps the teacher's temperature at 0.04: ``--set
"task_options.teacher_temperature=[0.04, 0.04]"``. Its published result, not measured here: 69.3 % of ImageNet by
nearest neighbours, 73.8 % by a linear probe. Their code also decays tokens, positions and lengths; here kernels alone.
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, PreprocessOptions, SourceConfig, ViewConfig
from vitrail.data.transforms.colour import ColourConfig
from vitrail.nn.block import BlockConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit_presets import preset


def run() -> Run:
    """Two global crops and eight local ones of 96 pixels, flipped and recoloured."""
    return Run(
        task="dino",
        task_options={"normalise_prototypes": False},
        data=DataConfig(
            source=SourceConfig(spec="images", val_fraction=0.02),
            preprocess=PreprocessOptions(interpolation="bicubic"),
            views=views(),
            loader=LoaderConfig(batch_size=256),
        ),
        model=preset("S/16", block=BlockConfig(drop_path=0.1)),
        optimizer=OptimizerConfig(base_lr=5e-4, weight_decay=0.04, final_weight_decay=0.4),
        schedule=ScheduleConfig(warmup=10 / 100, final=1e-6 / 5e-4),
        epochs=100,
        clip=3.0,
        clip_each=True,
    )


def views() -> tuple[ViewConfig, ...]:
    """Of the two global crops one is always blurred, the other seldom and solarised at times."""
    return (
        ViewConfig(augment=_crop((0.4, 1.0), blur=1.0)),
        ViewConfig(augment=_crop((0.4, 1.0), blur=0.1, solarise=0.2)),
        ViewConfig(augment=_crop((0.05, 0.4), blur=0.5), count=8, scale=3 / 7, multiple=16),
    )


def _crop(area: tuple[float, float], *, blur: float, solarise: float = 0.0) -> AugmentConfig:
    colour = ColourConfig(
        jitter=(0.4, 0.4, 0.2, 0.1),
        jitter_probability=0.8,
        grey=0.2,
        blur=blur,
        blur_sigma=(0.1, 2.0),
        solarise=solarise,
    )
    return AugmentConfig(crop="resized", area=area, colour=colour, horizontal_flip=0.5)
