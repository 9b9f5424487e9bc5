"""A photograph twice as large, by what was learned from another one; both are embedded in scikit-learn.

vitrail train --recipe sample_photos --seed 0
"""

from __future__ import annotations

import dataclasses

from vitrail.data.transforms.degrade import DegradeConfig
from vitrail.recipes import super_resolution_x2
from vitrail.train.run import Run


def run() -> Run:
    """The light model on parts of one photograph."""
    run = super_resolution_x2.restoring(DegradeConfig(scale=2))
    source = dataclasses.replace(run.data.source, spec="sample_photos")
    loader = dataclasses.replace(run.data.loader, passes=1600)
    return dataclasses.replace(run, data=dataclasses.replace(run.data, source=source, loader=loader), epochs=4)
