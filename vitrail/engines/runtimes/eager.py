"""PyTorch eager: the task as it is, on its device."""

from __future__ import annotations

from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.engines import Engine, InProcess
from vitrail.engines.autocast import Autocast
from vitrail.trainable import Embedder


def prepare(task: Embedder, precision: str) -> Engine:
    """The task itself in fp32, under autocast in any other precision."""
    return task if precision == "fp32" else Autocast(task, AUTOCAST_DTYPES[precision])


RUNTIME = InProcess(precisions=("fp32", *AUTOCAST_DTYPES), prepare=prepare)
