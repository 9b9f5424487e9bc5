"""Tensors in a file that no model computes with: losses, metrics, counters, queues, the state of an optimiser."""

from __future__ import annotations

import re
from collections.abc import Collection

from vitrail.checkpoints.containers import Entry

_WORDS = [
    "criterion",
    "criterions",
    "loss",
    "losses",
    "lossfn",
    "lossfunction",
    "objective",
    "metric",
    "metrics",
    "acc",
    "accuracy",
    "top1",
    "top5",
    "f1",
    "auroc",
    "auc",
    "auprc",
    "precision",
    "recall",
    "confmat",
    "confusion",
    "specificity",
    "kappa",
    "mae",
    "mse",
    "rmse",
    "r2",
    "meter",
    "meters",
    "optimizer",
    "optimizers",
    "optim",
    "optimiser",
    "scheduler",
    "schedulers",
    "sched",
    "lr",
    "scaler",
    "ema",
    "emas",
    "averaged",
    "averager",
    "momentum",
    "counter",
    "counters",
    "step",
    "steps",
    "globalstep",
    "epoch",
    "epochs",
    "iteration",
    "iterations",
    "updates",
    "numupdates",
    "averages",
    "naveraged",
    "queue",
    "queueptr",
    "center",
    "centre",
    "teacher",
    "student",
    "classweights",
    "classweight",
    "posweight",
    "posweights",
    "priors",
    "aux",
    "auxiliary",
    "projector",
    "predictor",
    "totalops",  # what thop counts in each layer
    "totalparams",
    "mixup",
    "cutmix",
    "augment",
    "augmentation",
    "augmentations",
]
_EXTRA = frozenset(_WORDS)
_PREFIXES = ("train", "val", "valid", "validation", "test", "eval", "num", "n", "model", "best", "running", "my")
_SPLIT = re.compile(r"[_\-]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")
MAX_NAMED = 3


def is_beside(name: str, entry: Entry) -> bool:
    """Whether a tensor that a dialect has no use for is no part of the model, by a word in its path or its dtype."""
    if not entry.dtype.is_floating_point:
        return True  # counters and tables of indices; weights are numbers with a point
    return any(_is_extra(part) for part in re.split("[./]", name))


def in_words(names: Collection[str]) -> str:
    """One sentence that names them."""
    return f"left out, no part of the model: {shown(names)}"


def shown(names: Collection[str]) -> str:
    """The first few, and how many more there are."""
    first = sorted(names)[:MAX_NAMED]
    return ", ".join(first) + (f" and {len(names) - len(first)} more" if len(names) > len(first) else "")


def _is_extra(part: str) -> bool:
    words = [word.lower() for word in _SPLIT.split(part) if word]
    while len(words) > 1 and words[0] in _PREFIXES:
        words = words[1:]
    return "".join(words) in _EXTRA or (bool(words) and (words[0] in _EXTRA or words[-1] in _EXTRA))
