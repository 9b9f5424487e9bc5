"""What one token attends to, in every layer and head."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from vitrail.errors import UserError
from vitrail.explain.attentions import attentions, own, received
from vitrail.trainable import EncoderModule, image_encoder


@torch.no_grad()
def query_attention(
    task: EncoderModule, images: Tensor, patch: int | None = None, padding: Tensor | None = None
) -> np.ndarray:
    """The attention that the patches of one image receive from a token: float32 (layers, heads, h, w).

    What is missing from 1 goes to the tokens before the patches: queries, class token, distillation token, registers.

    Args:
        images: (1, C, H, W), preprocessed.
        patch: the one that attends, counted row by row; default: the class token, or the mean of all patches where
            there is none.
        padding: as of :func:`vitrail.explain.explain`.

    Raises:
        UserError: there is no such patch, or the encoder's layers merge tokens.
    """
    vit = image_encoder(task)
    grid = vit.grid(images)
    count = grid[0] * grid[1]
    if patch is not None and not 0 <= patch < count:
        raise UserError(f"there is no patch {patch}; this image has patches 0 to {count - 1}")
    border = () if padding is None else (padding,)
    rows = []
    for (weights,) in attentions(task, images, *border):
        if patch is None:
            rows.append(received(weights, vit, grid, *border))
        else:
            rows.append(own(weights, vit, grid)[:, vit.num_prefix + patch, vit.num_prefix :])
    found: np.ndarray = torch.stack(rows).float().cpu().unflatten(2, grid).numpy()
    return found
