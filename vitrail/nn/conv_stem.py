"""A light convolutional stem in place of the patch projection."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.nn.standardized_conv import StandardizedConv
from vitrail.ops.grid import Pair
from vitrail.ops.patches import grid_size

WEIGHT_EPS = 1e-8
GROUP = 16  # channels


@config
class ConvStemConfig:
    """Stride-2 3×3 convolutions down to the patch size, then a 1×1 projection (Xiao et al. 2021).

    Args:
        stage_depth: convolutions a stage; those after the first have stride 1.
        full_resolution: a stage of stride 1 before the first halving, for small images.
    """

    kind: Literal["conv"] = "conv"
    stage_depth: Annotated[int, Field(gt=0, le=16)] = 1
    full_resolution: bool = False


class ConvStem(nn.Module):
    """B C H W → tokens B N D: log2(patch) stages of 3×3 convolutions (the first of stride 2), each with GroupNorm and
    ReLU, widths doubling up to D, then a 1×1 convolution.

    Standardised kernels and GroupNorm stand where the paper has BatchNorm (Kolesnikov et al. 2020), so that results
    do not depend on the batch.
    """

    def __init__(self, channels: int, patch_size: Pair, dim: int, config: ConvStemConfig) -> None:
        super().__init__()
        side = patch_size[0]
        num_stages = side.bit_length() - 1
        if patch_size[0] != patch_size[1] or side != 2**num_stages or num_stages < 1:
            raise UserError(f"a conv stem needs a square patch size that is a power of 2, not {side}×{patch_size[1]}")
        self.patch_size = patch_size
        self.stages = nn.Sequential()
        for stage in range(-int(config.full_resolution), num_stages):
            width = max(dim >> (num_stages - 1 - stage), 8)
            for stride in (1 if stage < 0 else 2, *(1,) * (config.stage_depth - 1)):
                self.stages.append(StandardizedConv(channels, width, 3, stride, WEIGHT_EPS, padding=1))
                self.stages.append(nn.GroupNorm(num_groups(width), width))
                self.stages.append(nn.ReLU(inplace=True))
                channels = width
        self.projection = nn.Conv2d(channels, dim, 1)

    def grid(self, image_size: Pair) -> Pair:
        """The token grid of an image size.

        Raises:
            UserError: the size is not a multiple of the patch size.
        """
        return grid_size(image_size, self.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """B C H W → B N D."""
        self.grid((images.shape[-2], images.shape[-1]))
        images = images.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)  # channels last suits CPUs
        return self.projection(self.stages(images)).flatten(2).transpose(1, 2)

    def resize(self, patch_size: Pair) -> None:
        """A stem's downsampling is its architecture.

        Raises:
            UserError: always, unless the patch size stays.
        """
        if patch_size != self.patch_size:
            raise UserError("the patch size of a conv stem cannot change; resize the images instead")


def num_groups(width: int) -> int:
    """As many groups of 16 channels or more as divide the width."""
    return next(groups for groups in range(max(width // GROUP, 1), 0, -1) if width % groups == 0)
