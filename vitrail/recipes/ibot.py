"""iBOT pretraining with DINOv2's losses and LayerScale (Zhou et al. 2022; Oquab et al. 2023, section 4), ViT-S/16.

    vitrail pretrain images/ --method ibot

Crops, optimizer, clipping and schedules are DINO's, and prototypes learn their lengths, as in both papers' code for
ViT-S. DINOv2 gives patches their own head, which pays for larger models:
``--set task_options.share_head=false``.
"""

from __future__ import annotations

import dataclasses

from vitrail.nn.block import BlockConfig
from vitrail.recipes import dino
from vitrail.train.run import Run
from vitrail.vit_presets import preset


def run() -> Run:
    """Half of the global crops have 10 to 50 % of their patches hidden, in blocks."""
    return dataclasses.replace(
        dino.run(),
        task="ibot",
        model=preset("S/16", block=BlockConfig(drop_path=0.1, layer_scale=1e-5)),
    )
