"""Photos of phones twice as large, whose blur, noise and compression nobody knows.

    vitrail train PICTURES --recipe super_resolution_blind --seed 0

``PICTURES`` as of the recipe ``super_resolution_x2``. Each part of a picture is blurred in a direction of its own,
resized there and back, and gets noise and traces of JPEG (Zhang et al. 2021, BSRGAN, without its shuffling).
"""

from __future__ import annotations

from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.recipes import super_resolution_x2
from vitrail.train.run import Run


def run() -> Run:
    """The training of the recipe for twice as large pictures."""
    return super_resolution_x2.restoring(
        DegradeConfig(scale=2, blur=(0, 2), stretch=3, detour=(0.6, 1.2), noise=(0, 15), jpeg=(40, 95))
    )
