"""Convolutional maps of an image at every scale from the pixels to the patches, for the edges that a ViT loses."""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.nn.dense_heads import ConvBlock


class DetailStream(nn.Module):
    """Convolutions of the image in parallel to the ViT, for a decoder without a convolutional stem (Yao et al. 2024,
    ViTMatte, section 3.3).

    Args:
        widths: channels of each map, the finest first; the first has the image's resolution.
    """

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.channels = widths
        """Of :meth:`maps`."""
        steps = enumerate(zip([channels, *widths], widths, strict=False))
        self.steps = nn.ModuleList(ConvBlock(*pair, stride=2 if step else 1) for step, pair in steps)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The map at the image's resolution and after each halving."""
        found = []
        x = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels last suits CPUs
        for step in self.steps:
            x = step(x)
            found.append(x)
        return found
