"""PyTorch prepared for inference: on a CPU, packed linear layers (:mod:`vitrail.engines.packed`)."""

from __future__ import annotations

import copy

import torch

from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.engines import Engine, InProcess
from vitrail.engines.autocast import Autocast
from vitrail.engines.packed import has_onednn, pack
from vitrail.trainable import Embedder


def prepare(task: Embedder, precision: str) -> Engine:
    """A packed copy of ``task``; where it is on an accelerator, or oneDNN is not available, the task itself.

    In bf16 the linear layers and attention of the blocks compute in it; the residual stream and the head stay in fp32.
    """
    dtype = AUTOCAST_DTYPES.get(precision, torch.float32)
    if not has_onednn(next(task.parameters()).device, dtype):
        return task if precision == "fp32" else Autocast(task, dtype)
    twin = copy.deepcopy(task).eval().requires_grad_(False)
    for encoder in twin.encoders().values():
        pack(encoder.blocks, dtype)
    pack(twin, torch.float32)
    return twin


RUNTIME = InProcess(precisions=("fp32", "bf16"), prepare=prepare)
