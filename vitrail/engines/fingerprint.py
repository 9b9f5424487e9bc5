"""Fingerprints of models, by which their graphs are found again."""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import sys
from pathlib import Path

import torch

from vitrail.config import to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.trainable import Embedder

LIBRARIES = ("torch", "onnxruntime", "openvino")
VERSION = 1  # of what an entry of the cache holds


def fingerprint(task: Embedder, preprocess: PreprocessConfig, *more: str) -> str:
    """Of the weights, the settings, and the libraries that make a graph of them; names the files in a run's folder."""
    digest = hashlib.sha256()
    for name, tensor in task.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    versions = [f"{name} {_version(name)}" for name in LIBRARIES]
    digest.update(json.dumps([to_dict(task.config), to_dict(preprocess), *versions, *more]).encode())
    return digest.hexdigest()[:16]


def cache_key(task: Embedder, fingerprint: str) -> str | None:
    """The fingerprint together with the source code of the modules; None where these do not describe everything.

    A task that was changed after it was made, such as one whose layers merge tokens, has the config of a plain one.
    """
    kinds = {type(module) for module in task.modules()}
    sources = sorted({getattr(sys.modules.get(kind.__module__), "__file__", None) or "" for kind in kinds})
    if "" in sources or not _is_as_configured(task):
        return None
    digest = hashlib.sha256(f"{VERSION} {_version('vitrail')} {task.name} {fingerprint}".encode())
    for file in sources:
        digest.update(Path(file).read_bytes())
    return digest.hexdigest()[:16]


def _is_as_configured(task: Embedder) -> bool:
    """Does the config of the task lead to the same modules?"""
    try:
        with torch.device("meta"):
            plain = type(task)(task.config)
    except Exception:  # of a third party's task that needs more than its config
        return False
    found, expected = ([(name, type(module)) for name, module in each.named_modules()] for each in (task, plain))
    return found == expected


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""
