"""The features of the patches of one image, as the task computes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from vitrail.errors import UserError
from vitrail.explain.attentions import encoder_of_all_tokens
from vitrail.explain.restored import makes_pictures, require_small
from vitrail.ops.grid import Pair
from vitrail.ops.patches import padded_cells
from vitrail.trainable import Embedder, EncoderModule


@dataclass(frozen=True)
class PatchFeatures:
    """One image.

    Attributes:
        values: float32 (N, D), patches row by row, after the final norm.
        grid: (h, w), N = h·w.
        real: bool (N,), false where a patch is padding.
        layer: the block that they come from, counted from 0.
    """

    values: np.ndarray
    grid: Pair
    real: np.ndarray
    layer: int

    def require_patch(self, patch: int) -> int:
        """The index of a patch, checked.

        Raises:
            UserError: there is no such patch.
        """
        if not 0 <= patch < len(self.values):
            raise UserError(f"there is no patch {patch}; this image has patches 0 to {len(self.values) - 1}")
        return patch


@torch.no_grad()
def patch_features(task: EncoderModule, images: Tensor, *padding: Tensor, layer: int) -> PatchFeatures:
    """The features of one image (1, C, H, W) after a block of the encoder, counted from 0, and the final norm.

    The norm is applied to earlier blocks too, as in DINOv2 (Oquab et al. 2024).

    Raises:
        UserError: the encoder is no image encoder, or its layers merge tokens; or a picture to restore is too large.
    """
    vit = encoder_of_all_tokens(task)
    if makes_pictures(task):
        require_small(images)
    caught: list[Tensor] = []
    hook = vit.blocks[layer].register_forward_hook(lambda _, __, output: caught.append(output))
    try:
        if isinstance(task, Embedder):
            task.one_view()(images, *padding)
        else:
            vit(images)
    finally:
        hook.remove()
    grid = vit.grid(images)
    count = grid[0] * grid[1]
    values = vit.norm(caught[0][0, -count:]).float().cpu()  # queries that joined the tokens stand before them
    real = np.ones(count, bool)
    for each in padding:
        real &= ~padded_cells(each, grid).flatten().cpu().numpy()
    return PatchFeatures(values.numpy(), grid, real, layer)
