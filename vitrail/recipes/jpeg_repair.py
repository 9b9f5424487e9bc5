"""Traces of JPEG at quality 10 taken off pictures.

    vitrail train PICTURES --recipe jpeg_repair --seed 0

``PICTURES`` as of the recipe ``super_resolution_x2``.
"""

from __future__ import annotations

from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.recipes import super_resolution_x2
from vitrail.train.run import Run


def run() -> Run:
    """The training of the recipe for twice as large pictures."""
    return super_resolution_x2.restoring(DegradeConfig(jpeg=(10, 10)))
