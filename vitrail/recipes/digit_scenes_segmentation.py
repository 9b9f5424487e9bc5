"""Handwritten digits on a canvas, embedded in scikit-learn: a class for every pixel, from scratch.

    vitrail train --recipe digit_scenes_segmentation --seed 0

50 epochs and the report took 12 min 5 s in fp32 in one thread. On the 400 test scenes the mean IoU is 85.6 %, the
accuracy of pixels 98.4 % (seed 0).
"""

from __future__ import annotations

import dataclasses

from vitrail.recipes import digit_scenes
from vitrail.train.run import Run


def run() -> Run:
    """The data and the ViT of the detection recipe, under ViTMatte's decoder: strokes are two pixels wide, so their
    edges come from the pixels themselves. Half of the images is not resampled, which would blur them."""
    run = digit_scenes.run()
    source = dataclasses.replace(run.data.source, kind="semantic")
    scenes = dataclasses.replace(run.data.scenes, scale_probability=0.5)
    return dataclasses.replace(
        run,
        task="segmentation",
        task_options={"decoder": "detail", "hidden": 16, "subpixel": 2, "coarse": 1.0},
        data=dataclasses.replace(run.data, source=source, scenes=scenes),
        optimizer=dataclasses.replace(run.optimizer, lr=2e-3),
        schedule=dataclasses.replace(run.schedule, warmup=2 / 50),
        epochs=50,
        precision="auto",
    )
