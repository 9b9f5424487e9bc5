"""What a training is going to do, in a few lines, before it does it."""

from __future__ import annotations

import math
from pathlib import Path

from vitrail.config import to_dict
from vitrail.console import duration
from vitrail.data import AugmentConfig, Data
from vitrail.data.transforms.augment import PRESETS
from vitrail.data.transforms.scene_config import SCENE_PRESETS
from vitrail.defaults import FORWARD
from vitrail.train.distributed import World
from vitrail.train.run import Run
from vitrail.train.trial import Cost
from vitrail.trainable import Trainable
from vitrail.vit import ViT

MOMENTS = {"adamw": 2, "adam": 2, "lamb": 2, "sgd": 1}  # tensors of the optimizer for each parameter


def lines(run: Run, model: Trainable, data: Data, num_steps: int, world: World, cost: Cost, folder: Path) -> list[str]:
    """The plan of a run, a fact a line.

    Args:
        num_steps: in an epoch.
    """
    return [
        f"plan: {_model(run, model)}",
        f"plan: {_learning(run, model)}",
        f"plan: {_length(run, data, num_steps)}",
        f"plan: {_optimizer(run)}",
        f"plan: {_augmentation(run, model, data)}",
        f"plan: {run.precision} on {world.device}{f' × {world.size}' if world.size > 1 else ''}, "
        f"{_estimate(run, model, data, num_steps, world, cost)}",
        f"plan: results in {folder}",
    ]


def _model(run: Run, model: Trainable) -> str:
    name, encoder = model.released().name, next(iter(model.encoders().values()))
    if not isinstance(encoder, ViT):
        return f"{name}, {type(encoder).__name__} of {encoder.depth} layers"
    (height, width), vit = run.preprocess.size, encoder.config
    size = f"{height} × {width} pixels in patches of {vit.patch_size[0]} × {vit.patch_size[1]}"
    return f"{name}, ViT of {vit.depth} layers, {vit.dim} wide, {vit.heads} heads, {size}"


def _learning(run: Run, model: Trainable) -> str:
    counts = [(p.numel(), p.requires_grad) for p in model.released().parameters()]
    learns, total = sum(count for count, learns in counts if learns), sum(count for count, _ in counts)
    start = f"from {run.init}" if run.init else "from scratch"
    frozen = f", frozen: {', '.join(run.freeze)}" if run.freeze else ""
    first = ", the head fitted first" if run.fit_head and run.init else ""
    return f"{learns:,} of {total:,} parameters learn, {start}{frozen}{first}"


def _length(run: Run, data: Data, num_steps: int) -> str:
    splits = ", ".join(f"{len(source):,} {name}" for name, source in data.splits.items())
    batch = run.data.loader.batch_size
    epochs = "1 epoch" if run.epochs == 1 else f"{run.epochs:,} epochs"
    each = f"{run.members} trainings of " if run.members > 1 else ""
    return f"{each}{epochs} of {num_steps:,} steps of {batch:,} images; {splits} images"


def _optimizer(run: Run) -> str:
    rule, schedule = run.optimizer, run.schedule
    parts = [f"{rule.name}, peak rate {rule.peak_lr(run.data.loader.batch_size):.3g}"]
    parts += [f"layer decay {rule.layer_decay:g}"] if rule.layer_decay != 1 else []
    parts += [f"encoder × {rule.backbone_lr:g}"] if rule.backbone_lr != 1 else []
    warmup = f"{schedule.warmup_epochs:g} epochs" if schedule.warmup_epochs is not None else f"{schedule.warmup:.0%}"
    parts += [f"weight decay {rule.weight_decay:g}", f"{schedule.name} after a warmup of {warmup}"]
    parts += [f"weights averaged with {run.ema.decay:g}"] if run.ema else []
    parts += ["the weights of all trainings averaged"] if run.members > 1 else []
    return ", ".join(parts)


def _augmentation(run: Run, model: Trainable, data: Data) -> str:
    if run.data.views:
        return f"augmentation: {sum(view.count for view in run.data.views)} views of each image"
    if (own := data.target_kind.training(run.preprocess)) is not None:
        return str(own)
    chosen, presets = (run.data.scenes, SCENE_PRESETS) if model.spatial() else (run.data.augment, PRESETS)
    name = next((name for name, preset in presets.items() if preset == chosen), "of its own")
    plain = to_dict(AugmentConfig() if isinstance(chosen, AugmentConfig) else type(chosen)())
    changed = {key: value for key, value in to_dict(chosen).items() if value != plain[key]}
    settings = ", ".join(key if isinstance(value, dict) else f"{key} {value}" for key, value in changed.items())
    return f"augmentation {name}" + (f": {settings}" if settings else "")


def _estimate(run: Run, model: Trainable, data: Data, num_steps: int, world: World, cost: Cost) -> str:
    own = math.ceil(run.data.loader.batch_size / world.size)
    val = data.splits.val
    measured = math.ceil(run.epochs / run.evaluate_every) * len(val) if val is not None else 0
    fitted = len(data.split("train")) if run.fit_head and run.init else 0
    images = run.members * (run.epochs * num_steps * own + FORWARD * (measured / world.size + fitted))
    learns = sum(p.nbytes for p in model.parameters() if p.requires_grad)
    weights = sum(p.nbytes for p in model.parameters()) * (2 if run.ema else 1)
    kept = cost.num_bytes * math.ceil(own / run.accumulate)
    memory = weights + learns * (1 + MOMENTS[run.optimizer.name]) + kept
    size = f"{memory / 2**30:.1f} GiB" if memory >= 2**30 else f"{math.ceil(memory / 2**20)} MiB"
    return f"about {size} and {duration(max(cost.seconds * images, 1))}, by measured steps of a few images"
