"""What a weights file holds, ours or another library's, before a tensor is read; and its task, built from it."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail import registry
from vitrail.checkpoints import foreign, hub, native, rules
from vitrail.checkpoints.containers import open_tensors
from vitrail.checkpoints.foreign import Foreign
from vitrail.checkpoints.model import Model, numbered
from vitrail.config import from_dict, to_dict
from vitrail.console import printable
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError, did_you_mean
from vitrail.nn.init import skip_init
from vitrail.nn.pooling import PoolKind
from vitrail.ops.patches import Pair
from vitrail.trainable import Embedder
from vitrail.vit import ViT

NATIVE = "native"
TASKS = ("tasks", "pretrain")


@dataclass(frozen=True)
class Outline:
    """A weights file whose header was checked; it stays open. ``task`` is on the meta device.

    Attributes:
        read: the state dict, from the open file.
        dialect: ``native``, or the library's whose names the file has.
        assumed: what another library's file does not say and how it was settled.
    """

    file: Path
    task: Embedder
    preprocess: PreprocessConfig
    read: Callable[[], dict[str, Tensor]]
    metrics: dict[str, float] | None = None
    dialect: str = NATIVE
    assumed: tuple[str, ...] = ()

    def load(self) -> Embedder:
        """The task with its tensors, on the CPU.

        Raises:
            UserError: values that are not finite, or a file that changed.
        """
        self.task.load_state_dict(self.read(), assign=True)
        assert not any(buffer.is_meta for buffer in self.task.buffers()), "an unsaved buffer needs device='cpu'"
        return self.task


def outline(path: str | Path, *, allow_pickle: bool = False) -> Outline:
    """What the weights of a run folder, a weights file, or another library's folder are for.

    A file can claim no more than it holds.

    Args:
        allow_pickle: accept files of torch.save from other libraries.

    Raises:
        UserError: nothing there, or a file that is damaged, hostile or of no known dialect.
    """
    file = find_weights(path, allow_pickle=allow_pickle)
    tensors = open_tensors(file, allow_pickle=allow_pickle)
    ours = native.find(tensors)
    found = _native(ours) if ours else _foreign(foreign.find(tensors))
    try:
        require_fit(found.preprocess, found.task)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    return found


def find_weights(path: str | Path, *, allow_pickle: bool = False) -> Path:
    """The weights file of a run folder, of another library's folder or of a model on the hub; a file is itself.

    Args:
        path: also ``hf://owner/name``, which is fetched if it is not in the hub's cache.
        allow_pickle: fetch a pickle where the hub has nothing better.

    Raises:
        UserError: there is none.
    """
    if hub.is_address(path):
        return hub.fetch(path, allow_pickle=allow_pickle)
    path = Path(path)
    if not path.exists():
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        nearby = [printable(str(each)) for each in beside if each.is_dir() or each.suffix == path.suffix]
        hint = did_you_mean(str(path), nearby) if nearby else "give a run folder or a .safetensors file"
        raise UserError(f"there is no run or weights file {printable(str(path))!r}; {hint}")
    if not path.is_dir():
        return path
    for name in ("best", "last"):
        if (weights := path / "weights" / f"{name}.safetensors").is_file():
            return weights
    if (path / "config.yaml").is_file():
        raise UserError(
            f"{printable(str(path))!r} holds no weights/best.safetensors; give the folder of a finished run"
        )
    return foreign.weights_in(path)


def described(meta: dict[str, Any], file: Path) -> tuple[Embedder, PreprocessConfig]:
    """The task of a file of ours, on the meta device, and its preprocessing, as the meta in it says.

    Raises:
        UserError: it says no task that can be built, or no preprocessing.
    """
    name, settings = meta.get("task"), meta.get("config")
    module = _task_module(name)
    if module is None or not isinstance(settings, dict):
        hint = "import its module first" if "." in str(name) else "upgrade vitrail"
        raise UserError(f"{file} is for the task {name!r}, which this Vitrail does not have; {hint}")
    task = _on_meta(module, from_dict(module.Config, settings, where=str(file)), file)
    if "preprocess" not in meta:
        raise UserError(f"{file} does not say its preprocessing; fetch or train it again")
    return task, from_dict(PreprocessConfig, meta["preprocess"], where=str(file))


def as_model(task: Embedder, preprocess: PreprocessConfig | None) -> Model:
    """A pooled task in the terms that other libraries share.

    Raises:
        UserError: a task that no other library has.
    """
    config: Any = task.config
    if task.name in registry.names("pretrain"):
        options = {name: value for name, value in to_dict(config).items() if name != "model"}
        pool: PoolKind = "cls" if task.backbone.config.class_token else "mean"
        return Model(vit=task.backbone.config, pool=pool, task=task.name, options=options, preprocess=preprocess)
    if not is_shared(task):
        raise UserError(f"no other library's format holds the task {task.name!r}; save it as native")
    labels = task.name == "classification"
    return Model(
        vit=task.vit.config,
        pool=config.pool or ("cls" if task.vit.config.class_token else "mean"),
        head=config.head,
        outputs=len(config.classes) if labels else config.projection,
        labels=labels,
        classes=config.classes if labels else (),
        preprocess=preprocess,
    )


def is_shared(task: Embedder) -> bool:
    """Do other libraries have such a task?"""
    return task.name in ("classification", "features", *registry.names("pretrain"))


def resize(task: Embedder, image_size: int | Pair | None = None, patch_size: int | Pair | None = None) -> None:
    """Give a task another native image or patch size in place: positions and patch kernels are resampled.

    Raises:
        UserError: the patches do not cover the image, or a stem whose patch size is fixed.
    """
    for vit in backbones(task):
        vit.resize(image_size, patch_size)
    task.config = dataclasses.replace(task.config, model=task.backbone.config)


def backbones(task: Embedder) -> list[ViT]:
    """The backbone and its copies, as a student's and its teacher's."""
    return [module for module in task.modules() if isinstance(module, ViT)]


def require_fit(preprocess: PreprocessConfig, task: Embedder) -> None:
    """Does the preprocessing make what the task takes? Another size than the native one goes, where patches cover it.

    Raises:
        UserError: it does not.
    """
    model = task.vit.config
    if preprocess.channels != model.channels:
        raise UserError(
            f"the preprocessing makes images of {preprocess.channels} channels and the model takes {model.channels}; "
            "give both the same"
        )
    task.vit.embed.grid(preprocess.size)
    dataclasses.replace(model, image_size=preprocess.size)  # as bounded as a native size


def _native(found: native.Native) -> Outline:
    path = found.tensors.path
    task, preprocess = described(found.meta, path)
    found.require(task.state_dict())
    return Outline(path, task, preprocess, found.load, found.meta.get("metrics"))


def _foreign(found: Foreign) -> Outline:
    path = found.tensors.path
    name, settings, about_labels = _settings(found.model)
    preprocess, about_preprocessing = _preprocess(found.model)
    module = registry.load_from(TASKS, name)
    task = _on_meta(module, from_dict(module.Config, settings, where=str(path)), path)
    read = partial(rules.load, found.plan(task.state_dict()))
    assumed = (*found.model.assumed, *about_labels, *about_preprocessing)
    return Outline(path, task, preprocess, read, dialect=found.dialect, assumed=assumed)


def _settings(model: Model) -> tuple[str, dict[str, Any], list[str]]:
    """The task that can hold the model, its config, and what was assumed."""
    if model.task:
        return model.task, {"model": to_dict(model.vit), **model.options}, []
    settings = {"model": to_dict(model.vit), "pool": model.pool, "head": to_dict(model.head)}
    if not model.labels or not model.outputs:
        return "features", {**settings, "projection": model.outputs}, []
    if len(model.classes) == model.outputs:
        return "classification", {**settings, "classes": model.classes}, []
    assumed = f"classes: {model.outputs} without names; put their list into classes.json beside the file"
    return "classification", {**settings, "classes": numbered(model.outputs)}, [assumed]


def _preprocess(model: Model) -> tuple[PreprocessConfig, list[str]]:
    """What the file says, at the size of its positions, and what was assumed."""
    size = model.vit.image_size
    if model.preprocess is None:
        assumed = (
            "preprocessing: resized to the square, mean 0.5, std 0.5; put preprocessor_config.json beside the file"
        )
        return PreprocessConfig(size=size, channels=model.vit.channels), [assumed]
    if model.preprocess.size != size:
        sizes = ("×".join(map(str, each)) for each in (size, model.preprocess.size))
        return model.preprocess, ["positions: for {} pixels, resampled to the {} of the preprocessing".format(*sizes)]
    return model.preprocess, []


def _on_meta(module: Any, config: Any, file: Path) -> Embedder:
    try:
        with torch.device("meta"), skip_init():
            task: Embedder = module.Task(config)
            return task
    except (ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{file}: its config builds no model: {error}; fetch or train it again") from None


def _task_module(name: Any) -> Any:
    """The module of a task by its registry name, or None: ours, or a third party's that the program has imported.

    A file that names a module never makes it be imported.
    """
    if any(name in registry.names(package) for package in TASKS):
        return registry.load_from(TASKS, name)
    module = sys.modules.get(name) if isinstance(name, str) else None
    task = getattr(module, "Task", None)
    own = isinstance(task, type) and issubclass(task, Embedder) and task.__module__ == name
    return module if own and hasattr(module, "Config") else None
