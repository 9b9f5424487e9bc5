"""From a ViT's tokens to the grid of masks, and from queries to their mask embeddings (Kerssies et al. 2025, EoMT,
section 3.1).

Shapes: B images, D width, (h, w) token grid.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.feature_pyramid import ChannelNorm


class UpscaleBlock(nn.Module):
    """Twice as many cells along each side: transposed convolution, GELU, depthwise convolution, LayerNorm."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.enlarge = nn.ConvTranspose2d(dim, dim, kernel_size=2, stride=2)
        self.smooth = nn.Conv2d(dim, dim, kernel_size=3, padding=1, groups=dim, bias=False)
        self.norm = ChannelNorm(dim, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        """B D h w → B D 2h 2w."""
        y: Tensor = self.norm(self.smooth(F.gelu(self.enlarge(x))))
        return y


class MaskMlp(nn.Module):
    """Three layers with GELU between them: (..., D) → (..., D)."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(dim, dim)
        self.fc2 = nn.Linear(dim, dim)
        self.fc3 = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.fc3(F.gelu(self.fc2(F.gelu(self.fc1(x)))))
        return y
