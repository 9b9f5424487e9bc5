"""Weights files: the native format, safetensors with everything a model needs to be used."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vitrail.registry import submodules

if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
