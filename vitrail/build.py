"""From what a weights file describes, native or of another library, to a task on the meta device, to its tensors."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from vitrail import registry
from vitrail.checkpoints import adapters, extras, foreign, heads, native, rules
from vitrail.checkpoints.containers import Tensors, open_tensors
from vitrail.checkpoints.locate import find_weights
from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.init import skip_init
from vitrail.sizes import require_fit
from vitrail.trainable import Embedder

REGISTRIES = ("tasks", "pretrain", "generate")
"""Folders whose modules have a ``Config`` and a ``Task``; :func:`vitrail.registry.load_from` finds a name in them."""


@dataclass(frozen=True, repr=False)
class LazyCheckpoint:
    """An open weights file whose header was checked, with its task on the meta device; no tensor is read yet.

    Attributes:
        read: reads the state dict from the open file.
        dialect: ``native``, or that of another library.
        assumed: one sentence for each setting that another library's file does not contain, with the value taken.
    """

    file: Path
    task: Embedder
    preprocess: PreprocessConfig
    read: Callable[[], dict[str, Tensor]]
    metrics: dict[str, float] | None = None
    dialect: str = native.NAME
    assumed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"<{self.file}: {self.task.name}, {self.dialect}>"

    def load(self) -> Embedder:
        """The task with its tensors, on the CPU.

        Raises:
            UserError: values that are not finite, or a file that changed.
        """
        self.task.load_state_dict(self.read(), assign=True)
        assert not any(buffer.is_meta for buffer in self.task.buffers()), "an unsaved buffer needs device='cpu'"
        return self.task


def open_checkpoint(
    path: str | Path, *, allow_pickle: bool = False, names: str | None = None, backbone: bool = False
) -> LazyCheckpoint:
    """Open the weights of a run folder, a weights file, another library's folder or a model of the hub.

    A file can claim no more memory than its size.

    Args:
        allow_pickle: accept files of torch.save from other libraries.
        names: the file of a table of names, for weights of no known library.
        backbone: accept a model whose head cannot be computed, without it.

    Raises:
        UserError: nothing there, or a file that is damaged, hostile or of no known dialect.
    """
    if adapters.is_adapter(path):
        return _with_adapter(Path(path), allow_pickle=allow_pickle, names=names, backbone=backbone)
    file = find_weights(path, allow_pickle=allow_pickle)
    tensors = open_tensors(file, allow_pickle=allow_pickle)
    ours = native.find(tensors)
    found = _native(ours) if ours else _of_other(tensors, names, backbone=backbone)
    try:
        require_fit(found.preprocess, found.task)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return found


def build_described(meta: Mapping[str, Any], file: Path) -> tuple[Embedder, PreprocessConfig]:
    """The task that the meta of a native file or an exported graph describes, on the meta device; its preprocessing.

    Args:
        meta: as :func:`vitrail.checkpoints.native.meta_of` made it, not checked yet.

    Raises:
        UserError: it has no task that can be built, or no preprocessing.
    """
    name, settings = meta.get("task"), meta.get("config")
    module = _imported(name)
    if module is None or not isinstance(settings, dict):
        hint = "import its module first, or install its package" if "." in str(name) else "upgrade vitrail"
        raise UserError(f"{file} is for the task {name!r}, which this Vitrail does not have; {hint}")
    task = _on_meta(module, from_dict(module.Config, settings, where=str(file)), file)
    if "preprocess" not in meta:
        raise UserError(f"{file} does not contain its preprocessing; fetch or train it again")
    return task, from_dict(PreprocessConfig, meta["preprocess"], where=str(file))


def _native(found: native.Native) -> LazyCheckpoint:
    path = found.tensors.path
    task, preprocess = build_described(found.meta, path)
    found.require(task.state_dict())
    return LazyCheckpoint(path, task, preprocess, found.load, found.meta.get("metrics"))


def _with_adapter(folder: Path, *, allow_pickle: bool, names: str | None, backbone: bool) -> LazyCheckpoint:
    """The weights that an adapter of PEFT was trained on, with the adapter added."""
    merged = adapters.merged(folder, allow_pickle=allow_pickle)
    try:
        found = open_checkpoint(merged.file, names=names, backbone=backbone)
    except UserError as error:
        raise UserError(str(error).replace(str(merged.file), f"{merged.source} with {folder}")) from None

    def read() -> dict[str, Tensor]:
        assert merged.file.is_file(), "the file goes with its holder"
        return found.read()

    return replace(found, file=folder, read=read)


def _of_other(tensors: Tensors, names: str | None, *, backbone: bool) -> LazyCheckpoint:
    """The file of another library; where its head alone cannot be computed, without it or an error that says so."""
    try:
        return _foreign(foreign.find(tensors, names=names))
    except UserError as error:
        with suppress(UserError):
            return _foreign(foreign.find(tensors, names=names, any_name=True))
        try:
            found = foreign.find(tensors, names=names, with_head=False)
            without_head = _foreign(found)
        except UserError:
            raise error from None
        if backbone:
            return without_head
        if foreign.has_known_head(tensors, found):  # the head is as it should be: something else is wrong
            raise error from None
        head = extras.shown(set(found.left_out))
        raise UserError(
            f"{tensors.path} has a head ({head}) that Vitrail does not compute; its backbone is known: give it to "
            "--init, which needs no head"
        ) from None


def _foreign(found: foreign.Foreign) -> LazyCheckpoint:
    path, description = found.tensors.path, found.description
    task = _on_meta(registry.load_from(REGISTRIES, description.task, "Task", "Config"), description.config, path)
    preprocess, about_preprocessing = _preprocess(description.preprocess, task)
    plan = found.plan(task.state_dict())
    read = partial(rules.load, plan)
    left_out = {*found.left_out, *plan.left_out}
    of_heads = {name for name in left_out if heads.is_head(name)}
    said = [extras.in_words(left_out - of_heads)] if left_out - of_heads else []
    said += [f"left out, a head that Vitrail does not compute: {extras.shown(of_heads)}"] if of_heads else []
    assumed = (*description.assumed, *about_preprocessing, *said)
    return LazyCheckpoint(path, task, preprocess, read, dialect=found.dialect, assumed=assumed)


def _preprocess(found: PreprocessConfig | None, task: Embedder) -> tuple[PreprocessConfig, list[str]]:
    """From the file, else resizing to the task's native size; and what was assumed."""
    size = task.inputs.size
    if found is None:
        assumed = (
            "preprocessing: resized to the square, mean 0.5, std 0.5; put preprocessor_config.json next to the file"
        )
        return PreprocessConfig(size=size, channels=task.inputs.channels), [assumed]
    if found.size != size:
        sizes = ("×".join(map(str, each)) for each in (size, found.size))
        return found, ["positions: for {} pixels, resampled to the {} of the preprocessing".format(*sizes)]
    return found, []


def _on_meta(module: ModuleType, config: object, file: Path) -> Embedder:
    try:
        with torch.device("meta"), skip_init():
            task: Embedder = module.Task(config)
            return task
    except (ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{file}: its config builds no model: {error}; fetch or train it again") from None


def _imported(name: object) -> ModuleType | None:
    """The module of a task by its registry name, or None: ours, or a third party's that is permitted
    (:func:`vitrail.registry.permitted`); a file that names another module does not make it be imported.
    """
    if not isinstance(name, str):
        return None
    if any(name in registry.names(package) for package in REGISTRIES):
        return registry.load_from(REGISTRIES, name, "Task", "Config")
    module = sys.modules.get(name)
    if module is None and registry.permitted(name):
        module = importlib.import_module(name)
    task, config = (getattr(module, part, None) for part in ("Task", "Config"))
    own = isinstance(task, type) and issubclass(task, Embedder) and task.__module__ == name
    return module if own and isinstance(config, type) else None
