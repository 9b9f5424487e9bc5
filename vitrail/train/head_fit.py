"""A fresh head fitted before the training, on features of the encoder as its weights made them.

A head that begins with zeros sends gradients into the encoder that distort its features, which costs accuracy most
where images are few; so linear probing comes first, then fine-tuning (LP-FT; Kumar et al. 2022).
N images, D features, K outputs.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from vitrail.console import note
from vitrail.data import keyed_random
from vitrail.data.source import Source
from vitrail.data.transforms.preprocess import Preprocess, PreprocessConfig
from vitrail.errors import UserError
from vitrail.evaluation import evaluation_mode
from vitrail.pooled import PooledTask
from vitrail.probe.features import Reader, store
from vitrail.train.distributed import World
from vitrail.train.run import Run
from vitrail.trainable import Trainable, image_encoder

MOST = 5000  # images that are read
BATCH = 16
PENALTY = 0.01  # of half the squared weights; on flowers' features 0.001 to 0.1 differ by 0.6 points of accuracy
STEPS = 200  # of L-BFGS at most


def fit_head(task: Trainable, source: Source, run: Run, world: World) -> None:
    """Fit the head of a task for whole images on a training split, the same on every rank.

    A head that its weights brought along stays as it is. Prints what it does, or why there is nothing to fit.

    Raises:
        UserError: an image that cannot be read, unless the run skips such images: then the head stays as it is.
    """
    if reason := _unfit(task):
        note(f"fit_head: {reason}")
        return
    assert isinstance(task, PooledTask)
    task.to(world.device)
    if world.is_main:
        rows = keyed_random.permutation(len(source), keyed_random.key(run.seed, "head"))[:MOST]
        few = source.subset(np.sort(rows))
        note(f"fit_head: features of {len(few):,} images by the encoder as it is, then the head on them")
        try:
            before, after = _fit(task, few, run.preprocess, world.device)
            note(f"fit_head: loss {before:.3g} → {after:.3g}")
        except UserError as error:
            if run.data.loader.on_bad == "error":
                raise
            note(f"fit_head: the head stays as it is, since {error}")
    found = {name: value.cpu() for name, value in task.head.state_dict().items()}
    task.head.load_state_dict(world.broadcast(found))


def _unfit(task: Trainable) -> str | None:
    """Why there is no head to fit."""
    if not isinstance(task, PooledTask) or not isinstance(task.head.output, nn.Linear):
        return "this task has no head that is fitted first"
    if task.head.hidden is not None or task.head.distillation is not None:
        return "a head of several layers is not fitted first"
    return "the head of the weights is kept" if bool(task.head.output.weight.any()) else None


def _fit(task: PooledTask, source: Source, preprocess: PreprocessConfig, device: torch.device) -> tuple[float, float]:
    with evaluation_mode(task):
        reader = Reader(image_encoder(task), task.pool, device)
        (found,) = store(reader, source, Preprocess(preprocess), 1, [reader.vit.depth - 1], BATCH, "features")
        targets = source.target_kind.collate(source.targets)
        assert isinstance(targets, Tensor)
        return solve(task, found.values[0].to(device), targets.to(device))


def solve(task: PooledTask, vectors: Tensor, targets: Tensor, penalty: float = PENALTY) -> tuple[float, float]:
    """Fit the linear head by L-BFGS: minimise the task's criterion on features (N, D) plus ``penalty`` times half the
    squared weights of standardised features. Returns the criterion before and after.

    The standardisation is folded into the weights afterwards; without a bias features are scaled, but not centred.
    """
    head, linear = task.head, task.head.output
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        features = head.norm(vectors.float())
        before = float(task.criterion(task.rescaled(linear(features)), targets))
        centre = features.mean(dim=0) if linear.bias is not None else torch.zeros_like(features[0])
        scale = features.std(dim=0, correction=0).clamp(min=1e-6)
    weights = torch.zeros_like(linear.weight, requires_grad=True)
    offsets = torch.zeros(len(weights), device=weights.device, requires_grad=linear.bias is not None)
    standardised = (features - centre) / scale
    rule = torch.optim.LBFGS(
        [each for each in (weights, offsets) if each.requires_grad],
        max_iter=STEPS,
        history_size=20,
        line_search_fn="strong_wolfe",
    )

    def objective() -> Tensor:
        rule.zero_grad()
        value = task.criterion(task.rescaled(standardised @ weights.T + offsets), targets)
        total = value + penalty / 2 * weights.square().sum()
        total.backward()
        return total

    rule.step(objective)
    with torch.no_grad():
        linear.weight.copy_(weights / scale)
        if linear.bias is not None:
            linear.bias.copy_(offsets - (weights / scale) @ centre)
        return before, float(task.criterion(task.rescaled(linear(features)), targets))
