"""What lies outside the blocks of a ViT: patch projection, tokens, positions, norms and head, by shape and name."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from vitrail.checkpoints.naming.layers import Layer
from vitrail.checkpoints.naming.roles import in_order

_PATCH = re.compile(r"patch|embed|proj|conv|stem", re.IGNORECASE)
_POSITIONS = re.compile(r"pos", re.IGNORECASE)
_CLASS = re.compile(r"cls|class", re.IGNORECASE)
_DISTILLED = re.compile(r"dist", re.IGNORECASE)
_REGISTERS = re.compile(r"reg|storage", re.IGNORECASE)
_MASK = re.compile(r"mask", re.IGNORECASE)
_PRE = re.compile(r"pre|before|embed|patch|input", re.IGNORECASE)
HEAD = re.compile(r"head|classif|(^|[._])(fc|linear|logits?|out|output)\d*([._]|$)", re.IGNORECASE)


@dataclass
class Outside:
    """The layers by role; None where there is none.

    Attributes:
        kernel: shape of the patch projection as a convolution, (D, C, P, P).
        flat: the projection is of flattened patches.
        head: the linear layers of the head, the last one gives the outputs.
        rest: those without a role.
    """

    projection: Layer | None = None
    kernel: tuple[int, ...] = ()
    flat: bool = False
    class_token: Layer | None = None
    distillation_token: Layer | None = None
    registers: Layer | None = None
    positions: Layer | None = None
    pre_norm: Layer | None = None
    norm: Layer | None = None
    head_norm: Layer | None = None
    head: list[Layer] = field(default_factory=list)
    dropped: list[Layer] = field(default_factory=list)
    rest: list[Layer] = field(default_factory=list)


def read(found: Sequence[Layer], dim: int, blocks: str) -> Outside:
    """Roles of the layers outside.

    Args:
        dim: the width of a token.
        blocks: how the names of the blocks begin.
    """
    outside, layers = Outside(), list(in_order(found))
    _take_positions(outside, layers, dim)
    _take_projection(outside, layers, dim)
    _take_tokens(outside, layers, dim)
    _take_head(outside, layers, dim)
    _take_norms(outside, layers, dim, blocks)
    outside.rest = layers
    return outside


def square_patch(inputs: int, patch: Sequence[int] | None = None, channels: int | None = None) -> tuple[int, int, int]:
    """(channels, height, width) of a flattened patch of so many numbers; zeros: it is no square of 1 to 4 channels."""
    if patch is not None:
        return inputs // math.prod(patch), patch[0], patch[1]
    for count in (3, 1, 4, 2) if channels is None else (channels,):
        side = math.isqrt(inputs // count)
        if count * side**2 == inputs:
            return count, side, side
    return 0, 0, 0


def _take_projection(outside: Outside, layers: list[Layer], dim: int) -> None:
    convolutions = [layer for layer in layers if len(layer.shape) == 4 and layer.shape[0] == dim]
    if len(convolutions) == 1:
        outside.projection, outside.kernel = convolutions[0], convolutions[0].shape
    else:
        flat = [
            layer for layer in layers if _is_matrix(layer) and layer.shape[0] == dim and square_patch(layer.shape[1])[0]
        ]
        named = [layer for layer in flat if _PATCH.search(layer.path) and not HEAD.search(layer.path)] or flat
        if not named:
            return
        outside.projection, outside.flat = named[0], True
        outside.kernel = (dim, *square_patch(named[0].shape[1]))
    layers.remove(outside.projection)


def _take_positions(outside: Outside, layers: list[Layer], dim: int) -> None:
    def is_table(layer: Layer) -> bool:
        plain = [size for size in layer.shape if size != 1]
        return len(layer.shape) in (2, 3) and plain[-1:] == [dim] and len(plain) == 2 and not layer.has_bias

    tables = [layer for layer in layers if is_table(layer)]
    named = [layer for layer in tables if _POSITIONS.search(layer.path)]
    alone = [layer for layer in tables if "" in layer.names and not _REGISTERS.search(layer.path)]
    if chosen := named or alone:
        outside.positions = max(chosen, key=lambda layer: math.prod(layer.shape))
        layers.remove(outside.positions)


def _take_tokens(outside: Outside, layers: list[Layer], dim: int) -> None:
    tokens = [layer for layer in layers if "" in layer.names and layer.shape[-1:] == (dim,)]
    single = [layer for layer in tokens if math.prod(layer.shape) == dim]
    for layer in [layer for layer in single if _MASK.search(layer.path)]:
        outside.dropped.append(layer)
        layers.remove(layer)
        single.remove(layer)
    registers = [layer for layer in tokens if _REGISTERS.search(layer.path) and layer not in outside.dropped]
    distilled = [layer for layer in single if _DISTILLED.search(layer.path)]
    others = [layer for layer in single if layer not in registers + distilled]
    named = [layer for layer in others if _CLASS.search(layer.path)] or others
    for role, candidates in (("class_token", named), ("distillation_token", distilled), ("registers", registers)):
        if candidates:
            setattr(outside, role, candidates[0])
            layers.remove(candidates[0])


def _take_head(outside: Outside, layers: list[Layer], dim: int) -> None:
    """The last linear layer, and one before it whose outputs it takes."""
    linear = [layer for layer in layers if _is_matrix(layer)]
    for last in [layer for layer in linear if HEAD.search(layer.path)] or linear:
        others = [layer for layer in linear if layer is not last]
        region = last.path.rpartition(".")[0]
        before = [layer for layer in others if layer.shape == (last.shape[1], dim)]
        before = [layer for layer in before if region and layer.path.startswith(f"{region}.")] or before
        after = [layer for layer in others if layer.shape[1] == last.shape[0] and layer.shape[1] != dim]
        if after or (last.shape[1] not in (dim, 2 * dim) and not before):
            continue
        if last.shape[1] == dim and last in in_order([last, *before])[:1]:
            before = []  # the other one comes after it in the order of their names
        outside.head = [*before[:1], last]
        break
    for layer in outside.head:
        layers.remove(layer)


def _take_norms(outside: Outside, layers: list[Layer], dim: int, blocks: str) -> None:
    norms = [layer for layer in layers if layer.shape == (dim,) and set(layer.names) == {"weight", "bias"}]
    heads = {layer.path.rpartition(".")[0] for layer in outside.head} - {""}
    heads = {head for head in heads if not blocks.startswith(f"{head}.")}  # the whole model is no head
    in_head = [layer for layer in norms if layer.path.rpartition(".")[0] in heads]
    parent = blocks.rpartition(".")[0].rpartition(".")[0]
    rest = [layer for layer in norms if layer not in in_head]
    first = [layer for layer in rest if _PRE.search(layer.path.removeprefix(f"{parent}."))]
    after = [layer for layer in rest if layer not in first]
    if len(in_head) <= 1 and len(first) <= 1 and len(after) <= 1:
        chosen = {"pre_norm": first, "norm": after, "head_norm": in_head}
        for role, found in chosen.items():
            if found:
                setattr(outside, role, found[0])
                layers.remove(found[0])


def _is_matrix(layer: Layer) -> bool:
    return len(layer.shape) == 2 and "weight" in layer.names


def names(layers: Iterable[Layer]) -> list[str]:
    """Of all tensors of these layers."""
    return [name for layer in layers for name in layer.names.values()]
