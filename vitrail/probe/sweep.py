"""Many heads trained together on the same batches, each with its own learning rate and weight decay.

Nothing that one head learns touches another, so each ends as if it had been trained alone; reading the features, and of
linear heads the arithmetic too, costs once. H heads, B batch, K classes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from itertools import product
from typing import Annotated

import torch
from pydantic import Field, PositiveInt
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from vitrail.config import config
from vitrail.console import Progress
from vitrail.ops.schedules import cosine
from vitrail.probe.features import Features
from vitrail.probe.result import Outcome, Setting

Positive = Annotated[float, Field(gt=0)]
Rates = Annotated[tuple[Positive, ...], Field(min_length=1)]
Decays = Annotated[tuple[Annotated[float, Field(ge=0)], ...], Field(min_length=1)]


@config
class SweepOptions:
    """Args:
    lrs: peak learning rates, of batches of ``batch_size``; they fall along half a cosine.
    weight_decays: each is tried with each of them.
    epochs: passes over the labelled images.
    batch_size: images in a step; at most all there are.
    """

    lrs: Rates
    weight_decays: Decays = (0.0,)
    epochs: PositiveInt
    batch_size: PositiveInt

    @property
    def grid(self) -> list[dict[str, float]]:
        """The setting of each head."""
        return [{"lr": lr, "weight_decay": decay} for lr, decay in product(self.lrs, self.weight_decays)]


class Heads(nn.Module, ABC):
    """Features B … → logits H B K."""

    @abstractmethod
    def forward(self, x: Tensor) -> Tensor: ...

    @abstractmethod
    def each(self) -> Iterable[list[nn.Parameter]]:
        """The parameters of each head."""


def groups(heads: Heads, options: SweepOptions) -> list[dict[str, object]]:
    """Parameter groups for a torch optimizer, one a head."""
    return [
        {"params": parameters, "peak_lr": setting["lr"], **setting}
        for parameters, setting in zip(heads.each(), options.grid, strict=True)
    ]


def train(heads: Heads, optimizer: torch.optim.Optimizer, features: Features, options: SweepOptions, seed: int) -> None:
    """Minimise each head's mean cross-entropy; the seed decides the order of the images."""
    size = min(options.batch_size, len(features))
    num_steps = options.epochs * (len(features) // size)
    heads.train()
    with Progress("heads", num_steps) as progress:
        for step, (x, labels) in enumerate(features.batches(size, seed=seed, epochs=options.epochs)):
            for group in optimizer.param_groups:
                group["lr"] = cosine(group["peak_lr"], 0.0, step / num_steps)
            optimizer.zero_grad()
            losses(heads(x), labels).mean(dim=1).sum().backward()
            optimizer.step()
            progress.advance()


def choose(heads: Heads, val: Features, test: Features, options: SweepOptions) -> Outcome:
    """Measure every head on both; warns where the best learning rate lies at the edge of the grid."""
    (val_right, val_loss), (test_right, _) = (measure(heads, each, options.batch_size) for each in (val, test))
    columns = zip(options.grid, val_right, test_right, val_loss, strict=True)
    outcome = Outcome(tuple(Setting(*column) for column in columns))
    lr, edges = outcome.best.values["lr"], (min(options.lrs), max(options.lrs))
    if len(options.lrs) > 1 and lr in edges:
        edge = "lowest" if lr == edges[0] else "highest"
        return Outcome(outcome.settings, (f"the best lr, {lr:g}, is the {edge} of the grid; widen it with --set lrs",))
    return outcome


@torch.no_grad()
def measure(heads: Heads, features: Features, size: int) -> tuple[list[float], list[float]]:
    """Accuracy and mean cross-entropy of each head; what is not finite is never right."""
    heads.eval()
    right, loss = [], []
    for x, labels in features.batches(size):
        logits = heads(x)
        right.append((logits.argmax(dim=-1) == labels) & logits.isfinite().all(dim=-1))
        loss.append(losses(logits, labels).nan_to_num(nan=torch.inf))
    accuracy = torch.cat(right, dim=1).double().mean(dim=1)
    return accuracy.tolist(), torch.cat(loss, dim=1).double().mean(dim=1).tolist()


def losses(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy of each head and image, (H, B, K), (B,) → (H, B)."""
    flat = cross_entropy(logits.flatten(0, 1), labels.repeat(len(logits)), reduction="none")
    return flat.unflatten(0, logits.shape[:2])
