"""DeiT III on ImageNet-1k (Touvron, Cord and Jégou 2022, "Revenge of the ViT", table 1, authors' command), ViT-B/16.

    vitrail train imagenet/ --recipe deit3_b16_in1k --processes 8

It trains at 192 pixels. The authors then fine-tune 20 epochs at 224, with DeiT's augmentation:

    vitrail train imagenet/ --init runs/deit3_b16_in1k-imagenet --image-size 224 --augment deit --batch-size 512 \\
        --lr 1e-5 --epochs 20 --set optimizer.weight_decay=0.1 --set schedule.warmup_epochs=5 \\
        --set task_options.label_smoothing=0.1 --set data.augment.repeats=1 --set data.augment.erasing=null

Cost: 800 epochs are 7.9e19 floating point operations. Published after both, not measured here: 83.8 % top-1.
"""

from __future__ import annotations

import dataclasses

from vitrail.recipes import deit3_s16_in1k
from vitrail.train.run import Run
from vitrail.vit_presets import resized


def run() -> Run:
    """The settings of S/16, with a lower rate and more stochastic depth."""
    run = deit3_s16_in1k.run()
    model = dataclasses.replace(
        run.model, image_size=(192, 192), block=dataclasses.replace(run.model.block, drop_path=0.2)
    )
    return dataclasses.replace(
        run,
        model=resized(model, "B/16"),
        optimizer=dataclasses.replace(run.optimizer, lr=3e-3),
        schedule=dataclasses.replace(run.schedule, final=1e-5 / 3e-3),
    )
