"""Handwritten digits on a canvas, embedded in scikit-learn: boxes and masks of each, from scratch.

    vitrail train --recipe digit_scenes_instances --seed 0

30 epochs and the report took 9 min 26 s of processor time in one thread. On the 400 test scenes AP at IoU 0.50 is
95.8 % of masks and 96.0 % of boxes, AP 70.0 % of masks (seed 0).
"""

from __future__ import annotations

import dataclasses

from vitrail.recipes import digit_scenes
from vitrail.train.run import Run


def run() -> Run:
    """The recipe of detection, with masks on a grid of two pixels, since strokes are about as wide."""
    run = digit_scenes.run()
    source = dataclasses.replace(run.data.source, kind="masks")
    return dataclasses.replace(
        run,
        task="instances",
        task_options=run.task_options | {"masks": {"stride": 2, "dim": 32}},
        data=dataclasses.replace(run.data, source=source),
    )
