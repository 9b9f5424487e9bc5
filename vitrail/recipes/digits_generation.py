"""Drawn digits: flow matching on the 8×8 digits that are embedded in scikit-learn.

    vitrail train --recipe digits_generation --seed 0
    vitrail generate runs/digits_generation --count 360 --out drawn
    vitrail fidelity digits drawn --features runs/digits --classifier runs/digits --train digits

0.73 million parameters; 150 epochs took 15 min on one core of a busy CPU. Of 360 pictures the classifier of the recipe
``digits`` takes 97.2 % for their class; the Fréchet distance in its features is 0.58 (of training pictures 0.78), the
recall 77 % (85 %), and 9.7 % are nearer to a training picture than 95 % of the test pictures are. With
``--guidance 1.5`` these are 100 %, 0.73, 53 % and 13 %.
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
    """A plain ViT on 16 patches; DPM-Solver++ in 20 steps."""
    return Run(
        task="flow_matching",
        task_options={"sampler": {"name": "dpm_solver", "steps": 20}},
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
