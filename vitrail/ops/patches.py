"""Images to patches and back. P = (p_h, p_w) is the patch size; a flattened patch is ordered (C, p_h, p_w)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from vitrail.errors import UserError
from vitrail.ops.grid import Pair


def grid_size(image_size: Pair, patch_size: Pair, stride: Pair | None = None) -> Pair:
    """The token grid (h, w) of an image: one token every ``stride`` pixels (default: the patch size).

    Raises:
        UserError: the patches do not cover the image exactly.
    """
    stride = stride or patch_size
    for size, patch, step in zip(image_size, patch_size, stride, strict=True):
        if size < patch or (size - patch) % step:
            raise UserError(
                f"an image of {image_size[0]}×{image_size[1]} pixels is not covered by patches of "
                f"{patch_size[0]}×{patch_size[1]}"
                + (f" every {stride[0]}×{stride[1]} pixels" if stride != patch_size else "")
                + f"; resize it to {_nearest(image_size, patch_size, stride)} or set embed.pad=true"
            )
    height, width = ((s - p) // t + 1 for s, p, t in zip(image_size, patch_size, stride, strict=True))
    return height, width


def padded_cells(padding: Tensor, grid: Pair) -> Tensor:
    """Pixels bool (B, H, W) → which cells of a grid hold nothing but padding, bool (B, h, w)."""
    return F.adaptive_max_pool2d((~padding).float(), grid) == 0


def covered_size(image_size: Pair, patch_size: Pair, stride: Pair, *, grow: bool) -> Pair:
    """The next size that patches cover exactly: not smaller than the image (``grow``), or not larger.

    What is smaller than one patch stays as it is where it may not grow.
    """
    height, width = (
        size
        if size < patch and not grow
        else patch + step * (-(-max(size - patch, 0) // step) if grow else (size - patch) // step)
        for size, patch, step in zip(image_size, patch_size, stride, strict=True)
    )
    return height, width


def pad_to_patches(images: Tensor, patch_size: Pair, stride: Pair | None = None) -> Tensor:
    """Zero-pad B C H W at the bottom and right until the patches cover the image exactly."""
    size = (images.shape[-2], images.shape[-1])
    height, width = covered_size(size, patch_size, stride or patch_size, grow=True)
    return F.pad(images, (0, width - size[1], 0, height - size[0]))


def patchify(images: Tensor, patch_size: Pair, stride: Pair | None = None) -> Tensor:
    """B C H W → B N C·p_h·p_w, row by row; patches overlap where ``stride`` is smaller than the patch.

    Raises:
        UserError: the patches do not cover the image exactly.
    """
    stride = stride or patch_size
    grid_size((images.shape[-2], images.shape[-1]), patch_size, stride)
    windows = images.unfold(2, patch_size[0], stride[0]).unfold(3, patch_size[1], stride[1])
    return windows.permute(0, 2, 3, 1, 4, 5).flatten(3).flatten(1, 2)


def unpatchify(patches: Tensor, patch_size: Pair, grid: Pair) -> Tensor:
    """The inverse of :func:`patchify` without overlap: B N C·p_h·p_w → B C H W."""
    (height, width), (p_h, p_w) = grid, patch_size
    images = patches.unflatten(2, (-1, p_h, p_w)).unflatten(1, (height, width))
    return images.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)


def resize_kernel(kernel: Tensor, patch_size: Pair) -> Tensor:
    """Resize a patch projection D C p_h p_w so that tokens of equally resized images stay the same.

    The pseudo-inverse resize of FlexiViT (Beyer et al. 2023, eq. 4): with R the matrix of a bilinear image
    resize, the new kernel solves min ‖⟨x, k⟩ − ⟨R x, k'⟩‖, that is k' = pinv(Rᵀ) k. Computed in float64.
    """
    old: Pair = (kernel.shape[-2], kernel.shape[-1])
    if old == patch_size:
        return kernel
    basis = torch.eye(old[0] * old[1], dtype=torch.float64, device=kernel.device).unflatten(1, (1, *old))
    resized = F.interpolate(basis, patch_size, mode="bilinear", align_corners=False)  # rows are R's columns
    inverse = torch.linalg.pinv(resized.flatten(1))  # pinv(Rᵀ): new pixels × old pixels
    return (kernel.double().flatten(2) @ inverse.T).unflatten(2, patch_size).to(kernel.dtype)


def _nearest(image_size: Pair, patch_size: Pair, stride: Pair) -> str:
    return "×".join(
        str(p + max(round((s - p) / t), 0) * t) for s, p, t in zip(image_size, patch_size, stride, strict=True)
    )
