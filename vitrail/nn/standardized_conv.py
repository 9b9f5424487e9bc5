"""Convolutions with standardised kernels: with GroupNorm, a BatchNorm that does not depend on the batch."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def same_padding(x: Tensor, kernel: int, stride: int, value: float = 0.0) -> Tensor:
    """Pad B C H W as TensorFlow's SAME does: output = ⌈input / stride⌉, the odd pixel at the bottom and right."""
    height, width = (max((-(-size // stride) - 1) * stride + kernel - size, 0) for size in (x.shape[-2], x.shape[-1]))
    return F.pad(x, (width // 2, width - width // 2, height // 2, height - height // 2), value=value)


class StandardizedConv(nn.Conv2d):
    """Convolution whose kernel is standardised over each output channel (Qiao et al. 2019).

    Args:
        eps: added to the kernel's variance, or where ``eps_of_deviation`` to its root.
        padding: zeros on every side, or None for TensorFlow's SAME.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int,
        stride: int,
        eps: float,
        padding: int | None = None,
        *,
        eps_of_deviation: bool = False,
    ) -> None:
        super().__init__(inputs, outputs, kernel, stride, padding or 0, bias=False)
        self.eps, self.eps_of_deviation, self.same = eps, eps_of_deviation, padding is None

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(self.weight, dim=(1, 2, 3), keepdim=True, correction=0)
        scale = 1 / (variance.sqrt() + self.eps) if self.eps_of_deviation else torch.rsqrt(variance + self.eps)
        weight = (self.weight - mean) * scale
        if self.same:
            x = same_padding(x, self.kernel_size[0], self.stride[0])
        return F.conv2d(x, weight, stride=self.stride, padding=self.padding)
