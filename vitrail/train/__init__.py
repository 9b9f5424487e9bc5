"""Training: the one loop and what it is assembled from; ``run.py`` is the description, ``loop.py`` the doing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrail.registry import submodules

if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
