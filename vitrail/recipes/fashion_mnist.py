"""Fashion-MNIST, 28×28 pixels, from scratch.

    vitrail train fashion_mnist --recipe fashion_mnist --download

or any path to the same images, such as a folder with ``train.npz`` and ``test.npz``. With ``--processes 2`` on 2 cores
of a CPU with AMX, 16 epochs and the report took 23 min 26 s: 93.19 % test accuracy (seed 0, the averaged last weights).
"""

from __future__ import annotations

from vitrail.data import AugmentConfig, DataConfig, LoaderConfig, PreprocessOptions, SourceConfig
from vitrail.data.transforms.batched import ErasingConfig
from vitrail.nn.block import BlockConfig
from vitrail.nn.conv_stem import ConvStemConfig
from vitrail.train.ema import EmaConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit import ViTConfig


def run() -> Run:
    """A mean-pooled ViT of 0.8 M parameters on the 7×7 tokens of a conv stem that begins at full resolution."""
    return Run(
        data=DataConfig(
            source=SourceConfig(spec="fashion_mnist", val_fraction=0),
            preprocess=PreprocessOptions(mean=(0.286,), std=(0.353,)),
            augment=AugmentConfig(
                horizontal_flip=0.5, shift=1, erasing=ErasingConfig(probability=0.25, area=(0.02, 0.25))
            ),
            loader=LoaderConfig(batch_size=128, workers=0, cache=True),
        ),
        model=ViTConfig(
            image_size=(28, 28),
            channels=1,
            patch_size=(4, 4),
            embed=ConvStemConfig(stage_depth=2, full_resolution=True),
            dim=128,
            depth=4,
            heads=4,
            mlp_dim=256,
            block=BlockConfig(mlp="gelu_tanh"),
            positions="sincos_2d",
            class_token=False,
        ),
        task_options={"label_smoothing": 0.05},
        optimizer=OptimizerConfig(lr=3e-3, weight_decay=0.05),
        schedule=ScheduleConfig(warmup=1 / 16),
        epochs=16,
        ema=EmaConfig(decay=0.999),
        precision="bf16",
    )
