"""Gaussian noise of σ = 25 taken off grey pictures.

    vitrail train PICTURES --recipe denoise_grey --seed 0

``PICTURES`` as of the recipe ``super_resolution_x2``. ``benchmarks/denoising.py`` compares the model with BM3D.
"""

from __future__ import annotations

from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.recipes import super_resolution_x2
from vitrail.train.run import Run


def run() -> Run:
    """The training of the recipe for twice as large pictures."""
    return super_resolution_x2.restoring(DegradeConfig(noise=(25, 25)), channels=1)
