"""A run: everything that decides what a training does. It is what recipes return and ``config.yaml`` holds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Literal

from pydantic import Field

from vitrail.config import config
from vitrail.data import DataConfig, PreprocessConfig
from vitrail.distill import DistillConfig
from vitrail.lora import LoraConfig
from vitrail.picture_losses import PictureLossConfig
from vitrail.train.ema import EmaConfig
from vitrail.train.optimizer import OptimizerConfig
from vitrail.train.precision import Precision
from vitrail.train.schedule import ScheduleConfig
from vitrail.vit import ViTConfig

Count = Annotated[int, Field(gt=0)]
Seconds = Annotated[float, Field(gt=0)]


@config
class Run:
    """Args:
    data: source, preprocessing, augmentation, loader. The loader's batch size counts all ranks.
    task: a file of ``vitrail/tasks`` or ``vitrail/pretrain``, a third party's module, or ``auto``: by the labels.
    task_options: fields of the task's ``Config``.
    init: a run folder or weights file to start from; image size, channels and classes may differ.
    init_names: the file of a table of names, where ``init`` is of no known library, or null.
    allow_pickle: open files that can run code, of ``init`` and of the teacher. A run folder cannot allow it.
    distill: a trained model to learn from besides the labels, or null.
    picture_loss: what restored pictures are compared by besides their pixels, or null.
    fit_head: fit a fresh head on features of the ``init`` weights first, before anything else learns.
    lora: low-rank adapters to train in place of the encoders' kernels, merged into the saved weights, or null.
    freeze: patterns of parameter names, or ``backbone`` for all encoders.
    accumulate: process each batch in this many pieces: the same gradient with less memory; not where images are
        compared with each other.
    clip: maximum norm of the gradient, or null.
    clip_each: it is the maximum for each parameter's gradient by itself, as in DINO, not for all together.
    ema: average the weights (the averaged ones are evaluated and released), or null.
    members: trainings from the same ``init``, one after the other with another seed each, whose released weights are
        averaged (a model soup, Wortsman et al. 2022).
    precision: ``auto`` measures on a CPU and takes bf16 on a GPU.
    compile: run ``torch.compile`` on the layers of encoders and decoders.
    activation_checkpointing: recompute these layers in the backward pass: the same step with less memory, more slowly;
        not with ``compile``.
    release: the weights that a run gives: the ``best`` by the monitored metric on validation images, or the ``last``.
    monitor: the metric of the validation split that selects the best weights, such as ``auroc``; null: the task's own.
    patience: stop after this many evaluations in a row without improvement, or null.
    save_steps, save_seconds: how often the state is saved besides at the end of every epoch, or null.
    strategy: under torchrun, replicate (``ddp``) or shard (``fsdp``) parameters.
    timeout: seconds until a rank that waits for a dead one exits with an error.
    loggers: files of ``vitrail/train/loggers``; ``metrics.csv`` is always written.
    """

    data: DataConfig
    model: ViTConfig = ViTConfig()
    task: str = "auto"
    task_options: dict[str, Any] = Field(default_factory=dict)
    init: str | None = None
    init_names: str | None = None
    allow_pickle: bool = False
    distill: DistillConfig | None = None
    picture_loss: PictureLossConfig | None = None
    fit_head: bool = False
    lora: LoraConfig | None = None
    freeze: tuple[str, ...] = ()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    epochs: Count = 100
    accumulate: Count = 1
    clip: Annotated[float, Field(gt=0)] | None = 1.0
    clip_each: bool = False
    ema: EmaConfig | None = None
    members: Count = 1
    precision: Precision = "auto"
    compile: bool = False
    activation_checkpointing: bool = False
    device: str = "auto"
    seed: Annotated[int, Field(ge=0)] = 0
    release: Literal["best", "last"] = "best"
    monitor: str | None = None
    patience: Count | None = None
    evaluate_every: Count = 1  # epochs
    save_steps: Count | None = None
    save_seconds: Seconds | None = 300.0
    strategy: Literal["ddp", "fsdp"] = "ddp"
    timeout: Seconds = 600.0
    loggers: tuple[str, ...] = ()

    @property
    def entries(self) -> set[str]:
        """The registry entries that it names; dotted ones are third parties' modules."""
        distill = self.distill.modules if self.distill else ()
        return {self.task, *self.loggers, *self.data.source.modules, *distill}

    @property
    def without_permissions(self) -> Run:
        """The run as a file may set it: only the user can allow files that run code."""
        distill = None if self.distill is None else replace(self.distill, allow_pickle=False)
        return replace(self, allow_pickle=False, distill=distill)

    @property
    def teacher(self) -> DistillConfig | None:
        """The teacher, with the run's permission."""
        return replace(self.distill, allow_pickle=True) if self.distill and self.allow_pickle else self.distill

    @property
    def preprocess(self) -> PreprocessConfig:
        """How images become the model's input: size and channels are the model's unless the data sets them."""
        return self.data.preprocess.resolve(self.model.image_size, self.model.channels)

    @property
    def resolved(self) -> Run:
        """The run as ``config.yaml`` holds it: size and channels of its preprocessing and its rate written out."""
        rule = self.optimizer
        if rule.lr is None and rule.base_lr is None:
            rule = replace(rule, lr=rule.peak_lr(self.data.loader.batch_size))
        return replace(self, optimizer=rule, data=replace(self.data, preprocess=self.preprocess.options()))


# Settings that may change when a run is resumed: where and how fast it runs, not what it computes.
INCIDENTAL = {
    "device", "timeout", "loggers", "save_steps", "save_seconds", "activation_checkpointing", "allow_pickle",
    "distill.allow_pickle", "data.loader.workers", "data.loader.prefetch", "data.loader.cache",
}  # fmt: skip


def differences(saved: Mapping[str, object], asked: Mapping[str, object], prefix: str = "") -> list[str]:
    """Settings that make another training, as ``name: saved, now asked``; ``auto`` equals what it was resolved to."""
    found = []
    for key in sorted(saved.keys() | asked.keys()):
        old, new, name = saved.get(key), asked.get(key), f"{prefix}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{name}.")
        elif old != new and new != "auto" and name not in INCIDENTAL:
            found.append(f"{name}: {old!r}, now {new!r}")
    return found


def keep_resolved(saved: Mapping[str, object], asked: Mapping[str, object]) -> dict[str, object]:
    """``asked`` with each ``auto`` as it was resolved in ``saved``; both plain types."""
    kept: dict[str, object] = {}
    for key, value in asked.items():
        old = saved.get(key, value)
        if isinstance(old, dict) and isinstance(value, dict):
            kept[key] = keep_resolved(old, value)
        else:
            kept[key] = old if value == "auto" else value
    return kept
