"""Vitrail: Vision Transformers from a folder of pictures to a trained, measured and explained model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from vitrail.benchmarking import benchmark as benchmark
    from vitrail.conversion import convert as convert
    from vitrail.conversion import inspect as inspect
    from vitrail.errors import UserError as UserError
    from vitrail.evaluation import evaluate as evaluate
    from vitrail.exporting import export as export
    from vitrail.int8 import quantize as quantize
    from vitrail.predictor import Predictor as Predictor
    from vitrail.predictor import load as load
    from vitrail.presets import preset as preset
    from vitrail.presets import presets as presets
    from vitrail.train.loop import fit as fit
    from vitrail.vit import ViT as ViT
    from vitrail.vit import ViTConfig as ViTConfig

__version__ = "0.1.0"

# Resolved on first use, so that `import vitrail` and `vitrail --help` need no torch.
_PUBLIC = {
    "Predictor": "vitrail.predictor",
    "UserError": "vitrail.errors",
    "ViT": "vitrail.vit",
    "ViTConfig": "vitrail.vit",
    "benchmark": "vitrail.benchmarking",
    "convert": "vitrail.conversion",
    "evaluate": "vitrail.evaluation",
    "export": "vitrail.exporting",
    "fit": "vitrail.train.loop",
    "inspect": "vitrail.conversion",
    "load": "vitrail.predictor",
    "preset": "vitrail.presets",
    "presets": "vitrail.presets",
    "quantize": "vitrail.int8",
}
__all__ = [
    "Predictor",
    "UserError",
    "ViT",
    "ViTConfig",
    "benchmark",
    "convert",
    "evaluate",
    "export",
    "fit",
    "inspect",
    "load",
    "preset",
    "presets",
    "quantize",
]


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'vitrail' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
