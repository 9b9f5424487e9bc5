"""Annotated objects of one image, as losses and metrics read them."""

from __future__ import annotations

from typing import Protocol

from torch import Tensor


class TrueObjects(Protocol):
    """n objects, such as :class:`vitrail.data.targets.Objects`."""

    @property
    def boxes_xyxy(self) -> Tensor:
        """(n, 4), in pixels."""

    @property
    def labels(self) -> Tensor:
        """(n,) int64."""

    @property
    def crowd(self) -> Tensor:
        """(n,) bool: one box around many objects; neither learned from nor counted."""

    @property
    def masks(self) -> Tensor | None:
        """(n, H, W) bool, where they are known."""
