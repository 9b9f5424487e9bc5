"""Drawn digits: flow matching on the 8×8 digits that are embedded in scikit-learn.

vitrail train --recipe digits_generation --seed 0
vitrail generate runs/digits_generation --class 7 --count 16
"""

from __future__ import annotations

from vitrail.data import DataConfig, LoaderConfig, SourceConfig
from vitrail.nn.block import BlockConfig
from vitrail.nn.rotary import RotaryConfig
from vitrail.train.ema import EmaConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.run import Run
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit import ViTConfig


def run() -> Run:
    """A plain ViT on 16 patches, with gentle affine augmentation; DPM-Solver++ in 20 steps with guidance."""
    return Run(
        task="flow_matching",
        task_options={"sampler": {"name": "dpm_solver", "steps": 20, "guidance": 1.5}},
        data=DataConfig(
            source=SourceConfig(spec="digits", val_fraction=0),
            loader=LoaderConfig(batch_size=128, workers=0),
        ),
        model=ViTConfig(
            image_size=(8, 8),
            channels=1,
            patch_size=(2, 2),
            dim=96,
            depth=4,
            heads=3,
            mlp_dim=384,
            block=BlockConfig(qk_norm=True),
            positions="sincos_2d",
            rotary=RotaryConfig(),
            class_token=False,
        ),
        optimizer=OptimizerConfig(lr=2e-3, betas=(0.9, 0.95), weight_decay=0.0),
        schedule=ScheduleConfig(warmup=0.05),
        epochs=150,
        ema=EmaConfig(decay=0.99),
        release="last",
        precision="fp32",
    )
