"""Vitrail: Vision Transformers from a folder of images to a trained, evaluated and explained model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # the two tables below, for type checkers; tests/test_public.py compares them
    from vitrail import checkpoints as checkpoints
    from vitrail import compress as compress
    from vitrail import config as config
    from vitrail import data as data
    from vitrail import distill as distill
    from vitrail import engines as engines
    from vitrail import explain as explain
    from vitrail import generate as generate
    from vitrail import lora as lora
    from vitrail import metrics as metrics
    from vitrail import nn as nn
    from vitrail import ops as ops
    from vitrail import predictions as predictions
    from vitrail import pretrain as pretrain
    from vitrail import probe as probe
    from vitrail import recipes as recipes
    from vitrail import report as report
    from vitrail import sample_fidelity as sample_fidelity
    from vitrail import sampling as sampling
    from vitrail import serve as serve
    from vitrail import tasks as tasks
    from vitrail import train as train
    from vitrail.benchmarking import benchmark as benchmark
    from vitrail.calibration import calibrate as calibrate
    from vitrail.conversion import convert as convert
    from vitrail.conversion import draft_names as draft_names
    from vitrail.conversion import inspect as inspect
    from vitrail.errors import UserError as UserError
    from vitrail.evaluation import evaluate as evaluate
    from vitrail.exporting import export as export
    from vitrail.generator import Generator as Generator
    from vitrail.generator import load_generator as load_generator
    from vitrail.int8 import quantize as quantize
    from vitrail.loading import load as load
    from vitrail.lora.peft import merge_adapter as merge_adapter
    from vitrail.predictor import Predictor as Predictor
    from vitrail.sample_fidelity import fidelity as fidelity
    from vitrail.train.averaging import average as average
    from vitrail.train.cross_validation import cross_validate as cross_validate
    from vitrail.train.loop import fit as fit
    from vitrail.train.rate_finder import find_rate as find_rate
    from vitrail.train.tuning import tune as tune
    from vitrail.tta import average_views as average_views
    from vitrail.version import __version__ as __version__
    from vitrail.vit import ViT as ViT
    from vitrail.vit_config import ViTConfig as ViTConfig
    from vitrail.vit_presets import preset as preset
    from vitrail.vit_presets import presets as presets

# The public names and their modules, imported on first use: `import vitrail` and `vitrail --help` need no torch.
_PUBLIC = {
    "Generator": "vitrail.generator",
    "Predictor": "vitrail.predictor",
    "UserError": "vitrail.errors",
    "ViT": "vitrail.vit",
    "ViTConfig": "vitrail.vit_config",
    "__version__": "vitrail.version",
    "average": "vitrail.train.averaging",
    "average_views": "vitrail.tta",
    "benchmark": "vitrail.benchmarking",
    "calibrate": "vitrail.calibration",
    "convert": "vitrail.conversion",
    "draft_names": "vitrail.conversion",
    "cross_validate": "vitrail.train.cross_validation",
    "evaluate": "vitrail.evaluation",
    "export": "vitrail.exporting",
    "fidelity": "vitrail.sample_fidelity",
    "find_rate": "vitrail.train.rate_finder",
    "fit": "vitrail.train.loop",
    "inspect": "vitrail.conversion",
    "load": "vitrail.loading",
    "load_generator": "vitrail.generator",
    "merge_adapter": "vitrail.lora.peft",
    "preset": "vitrail.vit_presets",
    "presets": "vitrail.vit_presets",
    "quantize": "vitrail.int8",
    "tune": "vitrail.train.tuning",
}
_PACKAGES = (
    "checkpoints",
    "compress",
    "config",
    "data",
    "distill",
    "engines",
    "explain",
    "generate",
    "lora",
    "metrics",
    "nn",
    "ops",
    "predictions",
    "pretrain",
    "probe",
    "recipes",
    "report",
    "sample_fidelity",
    "sampling",
    "serve",
    "tasks",
    "train",
)
"""Folders and modules with names of their own, as in ``vitrail.explain.explain``, imported on first use too."""
__all__ = [name for name in (*_PUBLIC, *_PACKAGES) if not name.startswith("_")]


def __getattr__(name: str) -> object:
    if name in _PUBLIC:
        return getattr(importlib.import_module(_PUBLIC[name]), name)
    if name in _PACKAGES:
        return importlib.import_module(f"vitrail.{name}")
    raise AttributeError(f"module 'vitrail' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*_PUBLIC, *_PACKAGES]
