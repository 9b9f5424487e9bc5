"""Pure tensor functions. Shapes: B batch, C channels, H W image size, h w token grid, N = h·w tokens, D width."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrail.registry import submodules

if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
