"""Structured pruning: attention heads and MLP units are removed by a first-order Taylor importance.

The loss change when a gate ξ in front of a head or unit closes is |∂L/∂ξ| to first order (Molchanov et al. 2019; for
heads Michel et al. 2019); its mean over labelled images is the importance. All layers lose equally many, the least
important of each, so the smaller model is an ordinary ViT: ``heads``, ``block.head_dim`` and ``mlp_dim`` describe it.

Shapes: B batch, T tokens, H heads of width d, U units, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Annotated, Literal, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.compress import Levels
from vitrail.compress.reduced import only_encoder
from vitrail.config import config
from vitrail.data import keyed_random, targets
from vitrail.data.batch import Batch, chunks, to_device
from vitrail.errors import UserError
from vitrail.evaluation import evaluation_mode
from vitrail.nn.block import Block
from vitrail.nn.init import skip_init
from vitrail.nn.pooling import AttentionPool
from vitrail.trainable import Embedder, EncoderModule, require_trainable
from vitrail.vit import ViT

STRENGTH = "share"
# of a block's tensors: what they consist of, along which axis
PRUNED = {
    "attention.qkv.weight": ("heads", 0),
    "attention.qkv.bias": ("heads", 0),
    "attention.qv_bias": ("heads", 0),
    "attention.inner_norm.weight": ("heads", 0),
    "attention.inner_norm.bias": ("heads", 0),
    "attention.out.weight": ("heads", 1),
    "attention.relative.table": ("heads", 1),
    "mlp.fc1.weight": ("units", 0),
    "mlp.fc1.bias": ("units", 0),
    "mlp.norm.weight": ("units", 0),
    "mlp.norm.bias": ("units", 0),
    "mlp.fc2.weight": ("units", 1),
}


@config
class Options:
    """What to remove.

    Args:
        share: of the heads and units of every layer; at least one of each stays.
        parts: both, or only one of them.
    """

    share: Annotated[float, Field(ge=0, lt=1)] = 0.25
    parts: Literal["both", "heads", "units"] = "both"


@dataclass(frozen=True)
class Importance:
    """Of each head (H,) and unit (U,) of each layer."""

    heads: list[Tensor]
    units: list[Tensor]


def levels(vit: ViT) -> Levels:
    """Up to half."""
    return (0.125, 0.25, 0.375, 0.5)


@torch.enable_grad()
def calibrate(task: Embedder, batches: Iterable[Batch]) -> Importance:
    """The importance, measured with the task's own loss of one image at a time: what a batch's loss divides by, such as
    the number of objects, does not matter.

    Args:
        batches: labelled images, as the task learns from or is evaluated on, with their padding.

    Raises:
        UserError: there are no images, or see :func:`only_encoder`.
    """
    _, vit = only_encoder(task)
    blocks = cast("list[Block]", list(vit.blocks))
    gated: list[tuple[nn.Linear, int]] = [(block.attention.out, block.attention.heads) for block in blocks]
    gated += [(block.mlp.fc2, block.mlp.fc2.in_features) for block in blocks]
    totals = [torch.zeros(count, device=module.weight.device) for module, count in gated]
    gates: dict[nn.Module, Tensor] = {}
    hooks = [module.register_forward_pre_hook(partial(_gate, gates, count)) for module, count in gated]
    seen = 0
    try:
        with evaluation_mode(task):
            for batch in batches:
                learned = to_device(_as_learned(batch, task), totals[0].device)
                for image in chunks(learned, len(batch["images"])):
                    with keyed_random.torch_seeded(seen):  # of a loss that draws, such as noised boxes
                        loss = require_trainable(task).loss(image)["loss"]
                    gradients = torch.autograd.grad(loss, [gates[module] for module, _ in gated])
                    for total, gradient in zip(totals, gradients, strict=True):
                        total += gradient.abs().flatten()
                    seen += 1
    finally:
        for hook in hooks:
            hook.remove()
    if not seen:
        raise UserError("there are no images to measure the importance on; give some with labels")
    means = [total / seen for total in totals]
    return Importance(means[: len(blocks)], means[len(blocks) :])


def apply(task: Embedder, options: Options, found: Importance) -> Embedder:
    """A smaller task that computes what the larger one would with those heads and units closed.

    Raises:
        UserError: a task whose head shares the blocks' widths.
    """
    if any(isinstance(module, AttentionPool) for module in task.modules()):
        raise UserError("attention pooling has heads and units of the blocks' number; choose another method or pool")
    kept = {
        "heads": [_most_important(each, options.share if options.parts != "units" else 0) for each in found.heads],
        "units": [_most_important(each, options.share if options.parts != "heads" else 0) for each in found.units],
    }
    path, vit = only_encoder(task)
    before = vit.config
    block = dataclasses.replace(before.block, head_dim=before.head_dim)
    after = dataclasses.replace(before, heads=len(kept["heads"][0]), mlp_dim=len(kept["units"][0]), block=block)
    state = {name: value.clone() for name, value in task.state_dict().items()}
    if vit.rotary is not None:
        name = f"{path}.rotary.frequencies"
        layers = zip(state[name].unbind(1), kept["heads"], strict=True)
        state[name] = torch.stack([each.index_select(1, heads) for each, heads in layers], dim=1)
    counts = {"heads": before.heads, "units": before.mlp_dim}
    for layer in range(before.depth):
        for name, (part, axis) in PRUNED.items():
            full = f"{path}.blocks.{layer}.{name}"
            if full in state:
                width = before.head_dim if part == "heads" and name != "attention.relative.table" else 1
                state[full] = _rest(state[full], kept[part][layer], counts[part], width, axis)
    with torch.device("meta"), skip_init():
        smaller: Embedder = type(task)(dataclasses.replace(task.config, model=after))
    smaller.load_state_dict(state, assign=True)
    return smaller.train(task.training)


def _as_learned(batch: Batch, task: EncoderModule) -> Batch:
    """The batch with targets in the pixels of its images, as a loss takes them; an evaluation's are in others."""
    if "geometries" not in batch:
        return batch
    kind = targets.load(task.takes[0])
    pairs = zip(cast("Sequence[object]", batch["targets"]), batch["geometries"], strict=True)
    collated = kind.collate([kind.to_input(target, geometry) for target, geometry in pairs])
    entries = {name: value for name, value in batch.items() if name != "geometries"}
    return cast("Batch", entries | {"targets": collated})


def _gate(gates: dict[nn.Module, Tensor], count: int, module: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Multiply each of the ``count`` parts of 1 T C by an open gate of its own, and leave the gates."""
    (x,) = inputs
    gates[module] = x.new_ones(count, 1).requires_grad_()
    return ((x.unflatten(-1, (count, -1)) * gates[module]).flatten(-2),)


def _most_important(importance: Tensor, share: float) -> Tensor:
    """The places of all but ``share``, in their order."""
    count = max(1, round(len(importance) * (1 - share)))
    return importance.topk(count).indices.sort().values


def _rest(value: Tensor, kept: Tensor, count: int, width: int, axis: int) -> Tensor:
    """What remains of a tensor whose ``axis`` holds, once or several times, ``count`` parts of ``width``."""
    groups = value.unflatten(axis, (-1, count, width))  # such as queries, keys and values
    return groups.index_select(axis + 1, kept).flatten(axis, axis + 2)
