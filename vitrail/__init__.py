"""Vitrail: Vision Transformers from a folder of images to a trained, evaluated and explained model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the table below, for type checkers; tests/test_public.py compares both
    from vitrail.benchmarking import benchmark as benchmark
    from vitrail.calibration import calibrate as calibrate
    from vitrail.conversion import convert as convert
    from vitrail.conversion import inspect as inspect
    from vitrail.errors import UserError as UserError
    from vitrail.evaluation import evaluate as evaluate
    from vitrail.exporting import export as export
    from vitrail.int8 import quantize as quantize
    from vitrail.lora.peft import merge_adapter as merge_adapter
    from vitrail.predictor import Predictor as Predictor
    from vitrail.predictor import load as load
    from vitrail.train.averaging import average as average
    from vitrail.train.cross_validation import cross_validate as cross_validate
    from vitrail.train.loop import fit as fit
    from vitrail.train.rate_finder import find_rate as find_rate
    from vitrail.train.tuning import tune as tune
    from vitrail.tta import average_views as average_views
    from vitrail.version import __version__ as __version__
    from vitrail.vit import ViT as ViT
    from vitrail.vit import ViTConfig as ViTConfig
    from vitrail.vit_presets import preset as preset
    from vitrail.vit_presets import presets as presets

# The public names and their modules, imported on first use: `import vitrail` and `vitrail --help` need no torch.
_PUBLIC = {
    "Predictor": "vitrail.predictor",
    "UserError": "vitrail.errors",
    "ViT": "vitrail.vit",
    "ViTConfig": "vitrail.vit",
    "__version__": "vitrail.version",
    "average": "vitrail.train.averaging",
    "average_views": "vitrail.tta",
    "benchmark": "vitrail.benchmarking",
    "calibrate": "vitrail.calibration",
    "convert": "vitrail.conversion",
    "cross_validate": "vitrail.train.cross_validation",
    "evaluate": "vitrail.evaluation",
    "export": "vitrail.exporting",
    "find_rate": "vitrail.train.rate_finder",
    "fit": "vitrail.train.loop",
    "inspect": "vitrail.conversion",
    "load": "vitrail.predictor",
    "merge_adapter": "vitrail.lora.peft",
    "preset": "vitrail.vit_presets",
    "presets": "vitrail.vit_presets",
    "quantize": "vitrail.int8",
    "tune": "vitrail.train.tuning",
}
__all__ = [name for name in _PUBLIC if not name.startswith("_")]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    raise AttributeError(f"module 'vitrail' has no attribute {name!r}")


def __dir__() -> list[str]:
    return list(_PUBLIC)
