"""Kernels of a first convolution for images of other channels."""

from __future__ import annotations

from torch import Tensor


def adapt_channels(kernel: Tensor, channels: int) -> Tensor:
    """A kernel (D, C, …) for images of ``channels``: summed for one channel, else repeated and scaled by C / channels.

    As timm's ``adapt_input_conv``: a grey image gives what three equal channels gave, and a kernel of more channels
    keeps the size of its outputs.
    """
    before = kernel.shape[1]
    if channels == before:
        return kernel
    if channels == 1:
        return kernel.sum(dim=1, keepdim=True)
    repeats = -(-channels // before)
    return kernel.tile(1, repeats, 1, 1)[:, :channels] * (before / channels)


def in_words(before: int, channels: int) -> str:
    """What :func:`adapt_channels` does, for a message."""
    return f"summed over {before} channels" if channels == 1 else f"repeated from {before} channels to {channels}"
