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
        """(n,) bool: one box around many objects."""

    @property
    def ignored(self) -> Tensor:
        """(n,) bool: crowds and other objects that are neither learned from nor counted."""

    @property
    def areas(self) -> Tensor:
        """(n,), in pixels, which tell small objects from large ones."""

    @property
    def masks(self) -> Tensor | None:
        """(n, H, W) bool, where they are known."""

    @property
    def outlined(self) -> Tensor | None:
        """(n,) bool: whose masks are known; None: all."""
