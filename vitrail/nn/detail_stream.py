"""What a plain ViT does not keep of an image: its edges, at every scale from the pixels to the patches."""

from __future__ import annotations

from torch import Tensor, nn

from vitrail.nn.dense_heads import ConvBlock


class DetailStream(nn.Module):
    """A few convolutions of the image beside the ViT, for a decoder that has no stem to read from (Yao et al. 2024,
    ViTMatte, section 3.3).

    Args:
        widths: channels after each halving, the finest first.
    """

    def __init__(self, channels: int, widths: list[int]) -> None:
        super().__init__()
        self.channels = [channels, *widths]
        """Of :meth:`maps`."""
        pairs = zip(self.channels, widths, strict=False)
        self.steps = nn.ModuleList(ConvBlock(inputs, width, stride=2) for inputs, width in pairs)

    def maps(self, images: Tensor) -> list[Tensor]:
        """The image itself, and what remains after each halving."""
        found = [images]
        for step in self.steps:
            found.append(step(found[-1]))
        return found
