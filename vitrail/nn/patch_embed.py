"""From pixels to tokens: the linear patch projection."""

from __future__ import annotations

from typing import Annotated, Literal

import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import Size, config
from vitrail.errors import UserError
from vitrail.ops.grid import Pair
from vitrail.ops.patches import covered_size, grid_size, pad_to_patches, patchify, resize_kernel


@config
class PatchEmbedConfig:
    """The linear projection of flattened patches (Dosovitskiy et al. 2021, eq. 1).

    Args:
        stride: pixels from one patch to the next; smaller than the patch they overlap. Default: the patch size.
        pad: zero-pad images at the bottom and right that the patches do not cover exactly.
        drop: leave out their last rows and columns instead, as a convolution does.
        centre: zero-pad images at all sides by (patch − stride) / 2, so that overlapping patches lie around the pixels
            of their strides, as a convolution that keeps the size.
        bottleneck: width of a linear layer between pixels and tokens, whose kernel has no bias (Li & He 2025, JiT).
        norm: LayerNorm on the flattened patches and on the tokens (Kumar et al. 2023, Dual PatchNorm).
    """

    kind: Literal["patch"] = "patch"
    stride: Size | None = None
    pad: bool = False
    drop: bool = False
    centre: bool = False
    bias: bool = True
    bottleneck: Annotated[int, Field(gt=0, le=16384)] | None = None
    norm: bool = False

    @model_validator(mode="after")
    def _consistent(self) -> PatchEmbedConfig:
        if self.pad + self.drop + self.centre > 1:
            raise ValueError("pad, drop and centre exclude each other; choose what becomes of an image's last pixels")
        return self


class PatchEmbed(nn.Module):
    """B C H W → tokens B N D on a grid (h, w).

    The kernel has a convolution's shape (D, C, p_h, p_w), so it equals a convolution of the same stride; it is
    applied as one matrix product on flattened patches, which is faster on CPUs and in reduced precision.
    """

    def __init__(self, channels: int, patch_size: Pair, dim: int, config: PatchEmbedConfig) -> None:
        super().__init__()
        self.config = config
        self.patch_size, self.stride = patch_size, config.stride or patch_size
        if config.centre and any((p - s) % 2 or p < s for p, s in zip(patch_size, self.stride, strict=True)):
            raise UserError(
                f"embed.centre needs patches that are longer than their stride by an even number of pixels, not "
                f"{patch_size[0]}×{patch_size[1]} every {self.stride[0]}×{self.stride[1]}; choose embed.stride=1 and "
                "an odd patch_size"
            )
        narrow = config.bottleneck
        self.projection = nn.Conv2d(
            channels, narrow or dim, patch_size, self.stride, bias=config.bias and narrow is None
        )
        self.widen = nn.Identity() if narrow is None else nn.Linear(narrow, dim, bias=config.bias)
        self.norm_in = nn.LayerNorm(channels * patch_size[0] * patch_size[1]) if config.norm else nn.Identity()
        self.norm_out = nn.LayerNorm(dim) if config.norm else nn.Identity()

    def grid(self, image_size: Pair) -> Pair:
        """The token grid of an image size.

        Raises:
            UserError: the patches do not cover the image and padding is off.
        """
        size = self._covered(image_size)
        down, across = self._border
        return grid_size((size[0] + 2 * down, size[1] + 2 * across), self.patch_size, self.stride)

    def forward(self, images: Tensor) -> Tensor:
        """B C H W → B N D."""
        if self.config.pad:
            images = pad_to_patches(images, self.patch_size, self.stride)
        elif self.config.drop:
            height, width = self._covered((images.shape[-2], images.shape[-1]))
            images = images[..., :height, :width]
        elif self.config.centre:
            down, across = self._border
            images = F.pad(images, (across, across, down, down))
        patches = patchify(images, self.patch_size, self.stride)
        tokens = F.linear(self.norm_in(patches), self.projection.weight.flatten(1), self.projection.bias)
        return self.norm_out(self.widen(tokens))

    @property
    def _border(self) -> Pair:
        """Pixels that are added at either side, down and across."""
        if not self.config.centre:
            return 0, 0
        return (self.patch_size[0] - self.stride[0]) // 2, (self.patch_size[1] - self.stride[1]) // 2

    def _covered(self, image_size: Pair) -> Pair:
        """The size after padding or dropping."""
        if not (self.config.pad or self.config.drop):
            return image_size
        return covered_size(image_size, self.patch_size, self.stride, grow=self.config.pad)

    def resize(self, patch_size: Pair) -> None:
        """Change the patch size; the kernel follows by the pseudo-inverse resize.

        Raises:
            UserError: the patches are normalised, which ties their LayerNorm to the size.
        """
        if self.config.norm and patch_size != self.patch_size:
            raise UserError("the patch size of a model with embed.norm cannot change; resize the images instead")
        old = self.projection
        scaled = [t * new // p for t, new, p in zip(self.stride, patch_size, self.patch_size, strict=True)]
        self.stride, self.patch_size = (scaled[0], scaled[1]), patch_size
        self.projection = nn.Conv2d(
            old.in_channels, old.out_channels, patch_size, self.stride, bias=old.bias is not None
        ).to(old.weight)
        self.projection.weight.data = resize_kernel(old.weight.data, patch_size)
        if old.bias is not None:
            self.projection.bias = old.bias
