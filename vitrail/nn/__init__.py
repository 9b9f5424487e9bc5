"""Building blocks. Shapes: B batch, T tokens (prefix tokens first, then h·w patches), D width, H heads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrail.registry import submodules

if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
