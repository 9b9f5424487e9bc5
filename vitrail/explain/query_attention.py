"""What one token attends to, in every layer and head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitrail.errors import UserError
from vitrail.ops.attention import from_queries
from vitrail.trainable import EncoderModule, image_encoder


@torch.no_grad()
def query_attention(task: EncoderModule, images: Tensor, patch: int | None = None) -> np.ndarray:
    """The attention that the patches of one image receive from a token: float32 (layers, heads, h, w).

    What is missing from 1 goes to the tokens before the patches: class token, distillation token, registers.

    Args:
        images: (1, C, H, W), preprocessed.
        patch: the one that attends, counted row by row; default: the class token, or the mean of all patches where
            there is none.

    Raises:
        UserError: there is no such patch.
    """
    vit = image_encoder(task)
    grid = vit.grid(images)
    count = grid[0] * grid[1]
    if patch is not None and not 0 <= patch < count:
        raise UserError(f"there is no patch {patch}; this image has patches 0 to {count - 1}")
    rows = []
    for (weights,) in vit.attentions(images):
        if patch is None:
            rows.append(from_queries(weights, vit.config.class_token, vit.num_prefix))
        else:
            rows.append(weights[:, vit.num_prefix + patch, vit.num_prefix :])
    found: np.ndarray = torch.stack(rows).float().cpu().unflatten(2, grid).numpy()
    return found
