"""The BiT-style ResNet stems of the hybrid ViTs (R26+S/32, R50+B/16, R50+L/32, R+Ti/16).

Weight-standardised convolutions, GroupNorm of 32 groups and TensorFlow's SAME padding, as in Kolesnikov et al. 2020
(Big Transfer) and the hybrids of Steiner et al. 2021.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.errors import UserError
from vitrail.nn.init import Initialised
from vitrail.nn.standardized_conv import StandardizedConv, same_padding
from vitrail.ops.grid import Pair
from vitrail.ops.patches import grid_size

NUM_GROUPS = 32
EXPANSION = 4


@config
class ResNetStemConfig:
    """A ResNet before the patch projection.

    Args:
        layers: residual units a stage; () keeps only the 7×7 root. A stage halves the resolution, the first
            excepted; the root quarters it. What remains to the patch size is the projection's.
        width: channels of the root.
        weight_eps: in weight standardisation: 1e-5 in the Flax original, 1e-8 in timm.
        weight_eps_of: what it is added to before dividing: the kernel's ``deviation`` (Flax) or ``variance`` (timm).
            They differ where kernels are small: 1e-5 on the variance triples a deviation of 1e-3.
        norm_eps: in GroupNorm: 1e-6 in the Flax original, 1e-5 in timm.
    """

    kind: Literal["resnet"] = "resnet"
    layers: tuple[Annotated[int, Field(gt=0, le=64)], ...] = (3, 4, 9)
    width: Annotated[int, Field(gt=0, le=1024, multiple_of=NUM_GROUPS)] = 64
    weight_eps: Annotated[float, Field(gt=0)] = 1e-5
    weight_eps_of: Literal["variance", "deviation"] = "variance"
    norm_eps: Annotated[float, Field(gt=0)] = 1e-6


class Bottleneck(Initialised):
    """1×1, 3×3 (stride), 1×1 convolutions, each with GroupNorm; ReLU after the sum."""

    def __init__(self, inputs: int, width: int, stride: int, config: ResNetStemConfig) -> None:
        super().__init__()
        outputs = width * EXPANSION
        self.conv1, self.norm1 = _conv_norm(inputs, width, 1, 1, config)
        self.conv2, self.norm2 = _conv_norm(width, width, 3, stride, config)
        self.conv3, self.norm3 = _conv_norm(width, outputs, 1, 1, config)
        self.downsample = nn.Sequential()
        if stride != 1 or inputs != outputs:
            self.downsample.conv, self.downsample.norm = _conv_norm(inputs, outputs, 1, stride, config)

    def finish_reset(self) -> None:
        """The identity at first (Goyal et al. 2017)."""
        nn.init.zeros_(self.norm3.weight)

    def forward(self, x: Tensor) -> Tensor:
        shortcut = self.downsample(x)
        x = F.relu(self.norm1(self.conv1(x)))
        x = F.relu(self.norm2(self.conv2(x)))
        return F.relu(self.norm3(self.conv3(x)) + shortcut)


class ResNetStem(nn.Module):
    """B C H W → tokens B N D: root, stages, then the patch projection of what they leave."""

    def __init__(self, channels: int, patch_size: Pair, dim: int, config: ResNetStemConfig) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.root = nn.Sequential()
        self.root.conv, self.root.norm = _conv_norm(channels, config.width, 7, 2, config)
        self.stages = nn.Sequential()
        inputs = config.width
        for stage, num_units in enumerate(config.layers):
            width = config.width * 2**stage
            units = nn.Sequential()
            for unit in range(num_units):
                units.append(Bottleneck(inputs, width, 2 if stage > 0 and unit == 0 else 1, config))
                inputs = width * EXPANSION
            self.stages.append(units)
        stages = [config.width * 2**stage * EXPANSION for stage in range(len(config.layers))]
        self.channels = [config.width, *(stages or [config.width])]
        """Of :meth:`maps`."""
        self.stride = stride = 4 * 2 ** max(len(config.layers) - 1, 0)
        if any(p % stride for p in patch_size):
            raise UserError(
                f"a ResNet stem of {len(config.layers)} stages shrinks images {stride} times; "
                f"the patch size {patch_size[0]}×{patch_size[1]} must be a multiple of that"
            )
        inner = (patch_size[0] // stride, patch_size[1] // stride)
        self.projection = nn.Conv2d(inputs, dim, inner, inner)

    def grid(self, image_size: Pair) -> Pair:
        """The token grid of an image size.

        Raises:
            UserError: the size is not a multiple of the patch size.
        """
        return grid_size(image_size, self.patch_size)

    def forward(self, images: Tensor) -> Tensor:
        """B C H W → B N D."""
        return self.project(self.maps(images)[-1])

    def maps(self, images: Tensor) -> list[Tensor]:
        """The root's map before its pooling, half the size of the images, and each stage's, from a quarter down.

        Without stages the last one is the root's after its pooling.
        """
        self.grid((images.shape[-2], images.shape[-1]))
        found = [F.relu(self.root(images))]
        x = F.max_pool2d(same_padding(found[0], 3, 2, value=-torch.inf), 3, 2)
        for stage in self.stages:
            x = stage(x)
            found.append(x)
        return found if len(self.stages) else [*found, x]

    def project(self, x: Tensor) -> Tensor:
        """The last map → tokens B N D."""
        return self.projection(x).flatten(2).transpose(1, 2)

    def resize(self, patch_size: Pair) -> None:
        """A stem's downsampling is its architecture.

        Raises:
            UserError: always, unless the patch size stays.
        """
        if patch_size != self.patch_size:
            raise UserError("the patch size of a ResNet stem cannot change; resize the images instead")


def _conv_norm(
    inputs: int, outputs: int, kernel: int, stride: int, config: ResNetStemConfig
) -> tuple[StandardizedConv, nn.GroupNorm]:
    of_deviation = config.weight_eps_of == "deviation"
    conv = StandardizedConv(inputs, outputs, kernel, stride, config.weight_eps, eps_of_deviation=of_deviation)
    return conv, nn.GroupNorm(NUM_GROUPS, outputs, config.norm_eps)
