"""Images that show what a method learns; of an encoder, its attention and which patches have similar features.

B batch, C channels, N patches on a grid (h, w), D width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from vitrail.ops.attention import from_queries
from vitrail.vit import ViT


@dataclass(frozen=True)
class Panel:
    """One column of the figure.

    Attributes:
        images: B C H W, normalised as the model's input; else, if not ``normalised``, grey or RGB from 0 to 1.
    """

    title: str
    images: Tensor
    normalised: bool = True


def attention_and_pca(vit: ViT, images: Tensor) -> list[Panel]:
    """The images; the last layer's attention, mean over its heads (Caron et al. 2021, figure 1); and the three
    principal components of the patch features of all these images as red, green and blue (Oquab et al. 2023, figure 1).

    The attention is the class token's, or that of all patches on average where there is none.

    Args:
        images: B C H W, normalised.
    """
    features, (weights,) = vit(images), vit.attentions(images, [-1])
    attention = from_queries(weights.float().mean(dim=1), vit.config.class_token, vit.num_prefix).unsqueeze(-1)

    def painted(values: Tensor) -> Tensor:
        """B N c → B c H W, a flat square a patch."""
        return interpolate(values.transpose(1, 2).unflatten(2, features.grid), images.shape[-2:])

    return [
        Panel("image", images),
        Panel("attention", painted(_unit(attention, dim=(1,))), normalised=False),
        Panel("features as colours", painted(_unit(_components(features.patches), dim=(0, 1))), normalised=False),
    ]


def _components(patches: Tensor) -> Tensor:
    """B N D → the three principal components over all patches of the batch, B N 3."""
    patches = patches.float() - patches.float().mean(dim=(0, 1))
    rows = patches.flatten(0, 1)
    _, axes = torch.linalg.eigh(rows.T @ rows)  # the largest comes last
    return patches @ axes[:, -3:].flip(1)


def _unit(values: Tensor, dim: tuple[int, ...]) -> Tensor:
    """Moved and stretched to 0 … 1 along ``dim``."""
    low, high = values.amin(dim, keepdim=True), values.amax(dim, keepdim=True)
    return (values - low) / (high - low).clamp_min(torch.finfo(values.dtype).tiny)
