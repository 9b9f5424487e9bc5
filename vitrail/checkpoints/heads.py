"""Heads that somebody gave a model of another library: a final linear layer is its head, under any name.

A dialect names the layer where its library has it in ``HEAD``, an optional name beside those of the contract.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable, Mapping

from vitrail.checkpoints import extras
from vitrail.checkpoints.containers import Entry
from vitrail.checkpoints.wrappers import Renamed, renamed

HIDDEN = "pre_logits"  # the ViT paper's hidden layer, which may stand without an output
NAMED = re.compile(
    r"head|classif|(^|[._])((fc|linear|logits?|out|output|cls|clf|last|final|probe|pred|predict|predictions?|top)\d*"
    r"|(last|final|output|out)_layer|\d+)$",  # a number is a place in an nn.Sequential, after its backbone
    re.IGNORECASE,
)
"""How a final layer may be called."""

_WIDTHS = (1, 2, 5)  # times the width of a token, by how tokens are pooled


def settle(tensors: Renamed, head: str) -> tuple[Renamed, list[str]]:
    """The file with its final linear layer under the library's name, and what was assumed.

    The layer may stand in a ``Sequential`` in the head's place, or beside a backbone that was wrapped.

    Args:
        head: the library's name of the layer; empty: nothing changes.
    """
    if not head or f"{head}.weight" in tensors.names:
        return tensors, []
    names = dict(tensors.names)
    region = region_of(head)
    if inside := {name: tensors.entries[name] for name in names if name.startswith(region)}:
        if (layer := _linear(inside)) is None or layer.endswith(HIDDEN):
            return tensors, []
        for part in ("weight", "bias"):
            if f"{layer}.{part}" in inside:
                names[f"{head}.{part}"] = names.pop(f"{layer}.{part}")
        return _again(tensors, names, tensors.left_out), [f"head: {layer}, the only linear layer in its place"]
    file = tensors.file
    assert file is not None
    beside = {name: file.entries[name] for name in tensors.left_out}
    beside = {name: entry for name, entry in beside.items() if not extras.is_beside(name, entry)}
    layer, widths = _linear(beside), {entry.shape[0] for entry in tensors.entries.values() if len(entry.shape) == 1}
    if layer is None or not NAMED.search(layer):
        return tensors, []
    width = beside[f"{layer}.weight"].shape[1]
    if not any(width == share * each for each in widths for share in _WIDTHS):
        return tensors, []
    taken = {f"{layer}.{part}" for part in ("weight", "bias")}.intersection(beside)
    names |= {f"{head}.{name.rpartition('.')[2]}": name for name in taken}
    left_out = [name for name in tensors.left_out if name not in taken]
    return _again(tensors, names, left_out), [f"head: {layer}, the linear layer beside the backbone"]


def without(tensors: Renamed, head: str) -> Renamed:
    """The file without everything in the place of its head, which is left out."""
    region = region_of(head)
    kept = {name: old for name, old in tensors.names.items() if not name.startswith(region)}
    dropped = [old for name, old in tensors.names.items() if name not in kept]
    return _again(tensors, kept, (*tensors.left_out, *dropped))


def region_of(head: str) -> str:
    """How the names of everything in the head's place begin."""
    return head.partition(".")[0] + "."


def _linear(entries: Mapping[str, Entry]) -> str | None:
    """The path of the only layer among these tensors, if it is a linear one."""
    layers = {name.rpartition(".")[0] for name in entries}
    layer = next(iter(layers), "")
    if len(layers) != 1 or {name.rpartition(".")[2] for name in entries} - {"weight", "bias"}:
        return None
    weight, bias = entries.get(f"{layer}.weight"), entries.get(f"{layer}.bias")
    if weight is None or len(weight.shape) != 2 or (bias is not None and bias.shape != weight.shape[:1]):
        return None
    return layer


def _again(tensors: Renamed, names: Mapping[str, str], left_out: Iterable[str]) -> Renamed:
    file = tensors.file
    assert file is not None
    return dataclasses.replace(renamed(file, names, left_out), path=tensors.path)
