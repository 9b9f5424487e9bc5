"""From a path to a predictor, in whatever engine."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import torch

from vitrail import engines
from vitrail.build import open_checkpoint
from vitrail.console import note
from vitrail.data.media.image_like import name_of
from vitrail.engines import FileFormat
from vitrail.engines.choose import PLAIN
from vitrail.engines.graph import open_file
from vitrail.errors import UserError
from vitrail.machine import pick_device
from vitrail.ops.grid import Pair, as_pair
from vitrail.predictions import Prediction
from vitrail.predictor import Predictor
from vitrail.sizes import adapt
from vitrail.trainable import Embedder


def load(
    path: str | Path,
    *,
    image_size: int | Pair | None = None,
    patch_size: int | Pair | None = None,
    device: str | torch.device = "auto",
    allow_pickle: bool = False,
    names: str | Path | None = None,
    engine: str | None = None,
    precision: str = "fp32",
    exact: bool = False,
) -> Predictor[Prediction]:
    """The predictor of a run folder (its best weights, else its last), a weights file, another library's folder, or a
    file that ``vitrail export`` wrote.

    Every adaptation of another library's weights is printed.

    Args:
        image_size: another native (height, width) in pixels; positions are resampled by the rule of the source.
        patch_size: another patch; its kernel is resized by the pseudo-inverse (Beyer et al. 2023, FlexiViT).
        allow_pickle: accept files of torch.save, read in a child process that cannot run what is in them, and .pt2
            files, which can run code.
        names: the file of a table of names, for weights of no known library.
        engine: what runs the model (:mod:`vitrail.engines`), or ``auto`` for the one that is measured to be the
            fastest; default: PyTorch, ``eager``, and for an exported file its own. Graphs and measurements are kept in
            the user's cache (:mod:`vitrail.engines.cache`).
        precision: ``fp32``, or ``bf16`` and ``fp16`` where the engine has them.
        exact: decode large JPEGs in full; see :class:`Predictor`.

    Raises:
        UserError: nothing there, a file that is damaged, hostile or of no known dialect, or an engine that is not
            installed or cannot hold the model.
    """
    if (own := engines.of_file(path, engine)) is not None:
        if engine not in (None, "auto", own) or patch_size is not None or str(device) not in ("auto", "cpu"):
            raise UserError(f"{name_of(path)} runs in {own} on the CPU; leave out engine, device and patch size")
        file = open_file(path, precision, engine=own, allow_pickle=allow_pickle)
        size = file.preprocess.size if image_size is None else as_pair(image_size)
        file.engine.require(size)
        preprocess = dataclasses.replace(file.preprocess, size=size)
        return Predictor(file.task, preprocess, device="cpu", metrics=file.metrics, engine=file.engine, exact=exact)
    device = _device_for(engine, precision, device)
    found = open_checkpoint(path, allow_pickle=allow_pickle, names=None if names is None else str(names))
    for line in found.assumed:
        note(line)
    task: Embedder = found.load()
    preprocess = found.preprocess
    if image_size is not None or patch_size is not None:
        preprocess = adapt(task, preprocess, image_size, patch_size)
    folder = Path(path) / "engines" if (Path(path) / "config.yaml").is_file() else None
    plain = Predictor(task, preprocess, device=device, metrics=found.metrics, exact=exact)
    return plain.running(engine or PLAIN, precision, folder)


def _device_for(engine: str | None, precision: str, device: str | torch.device) -> torch.device:
    """The device, if the engine runs on it; graphs run on the CPU."""
    if engine is None or engine == "auto" or not isinstance(engines.load(engine, precision), FileFormat):
        return pick_device(device)
    if str(device) not in ("auto", "cpu"):
        raise UserError(f"the engine {engine!r} runs on the CPU, not on {str(device)!r}; leave out one of the two")
    return torch.device("cpu")
