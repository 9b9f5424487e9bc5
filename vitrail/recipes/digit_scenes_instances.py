"""Handwritten digits on a canvas, embedded in scikit-learn: boxes and masks of each, from scratch.

    vitrail train --recipe digit_scenes_instances --seed 0

Not measured to its end yet.
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
