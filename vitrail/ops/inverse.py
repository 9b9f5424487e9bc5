"""Images that agree with a linear measurement, such as a known part, the grey values, or a small picture.

With a measurement A and its pseudo-inverse A⁺, an image x becomes x + A⁺ (y − A x): what is measured is as in y, and
the rest as in x (Wang et al. 2023, DDNM, equation 12). Images B C H W.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor


class Measurement(Protocol):
    """Makes images agree with what is known of them."""

    def project(self, images: Tensor) -> Tensor:
        """B C H W → B C H W, the nearest images that agree."""


@dataclass(frozen=True)
class Known:
    """Some pixels are known (inpainting).

    Attributes:
        image: C H W or B C H W, normalised.
        mask: bool H W, true where the image is known.
    """

    image: Tensor
    mask: Tensor

    def project(self, images: Tensor) -> Tensor:
        """The known pixels in place of the images' own."""
        return torch.where(self.mask, self.image, images)


@dataclass(frozen=True)
class Grey:
    """The mean of the channels is known (colouring).

    Attributes:
        image: 1 H W or B 1 H W, normalised.
    """

    image: Tensor

    def project(self, images: Tensor) -> Tensor:
        """All channels moved alike."""
        return images + (self.image - images.mean(dim=-3, keepdim=True))


@dataclass(frozen=True)
class Small:
    """The means of squares of pixels are known (super-resolution).

    Attributes:
        image: C h w or B C h w, normalised.
        scale: pixels along the side of a square.
    """

    image: Tensor
    scale: int

    def project(self, images: Tensor) -> Tensor:
        """Each square moved as a whole."""
        difference = self.image - F.avg_pool2d(images, self.scale)
        return images + difference.repeat_interleave(self.scale, -2).repeat_interleave(self.scale, -1)
