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

_HEAD = re.compile("head|classif", re.IGNORECASE)
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
    layer = _linear(beside)
    if layer is None or not NAMED.search(layer) or not _fits(beside[f"{layer}.weight"], tensors):
        return tensors, []
    taken = {f"{layer}.{part}" for part in ("weight", "bias")}.intersection(beside)
    names |= {f"{head}.{name.rpartition('.')[2]}": name for name in taken}
    left_out = [name for name in tensors.left_out if name not in taken]
    return _again(tensors, names, left_out), [f"head: {layer}, the linear layer beside the backbone"]


def named_otherwise(tensors: Renamed, head: str) -> tuple[Renamed, list[str]]:
    """The same for a head under a name that the dialect does not know, such as ``fc`` beside ``blocks``."""
    if not head or f"{head}.weight" in tensors.names or (layer := _alone(tensors)) is None:
        return tensors, []
    names = dict(tensors.names)
    for part in ("weight", "bias"):
        if f"{layer}.{part}" in names:
            names[f"{head}.{part}"] = names.pop(f"{layer}.{part}")
    return _again(tensors, names, tensors.left_out), [f"head: {layer}, a linear layer of such a name"]


def without(tensors: Renamed, head: str) -> Renamed:
    """The file without everything in the place of its head, which is left out."""
    regions = (region_of(head), *(f"{each}." for each in _called_heads(tensors)))
    kept = {name: old for name, old in tensors.names.items() if not name.startswith(regions)}
    dropped = [old for name, old in tensors.names.items() if name not in kept]
    return _again(tensors, kept, (*tensors.left_out, *dropped))


def is_head(name: str) -> bool:
    """Whether a tensor beside a model is of what is called a head, by the first two parts of its name."""
    first, *rest = name.split(".")[:-1] or [""]
    return bool(NAMED.search(first)) or any(_HEAD.search(part) for part in (first, *rest[:1]))


def _called_heads(tensors: Renamed) -> list[str]:
    """Modules of the model that are called like a head."""
    modules = dict.fromkeys(name.partition(".")[0] for name in tensors.names if "." in name)
    return [module for module in modules if NAMED.search(module)]


def _alone(tensors: Renamed) -> str | None:
    """The path of the only layer in modules that are called like a head, if it is a linear one of a token's width."""
    regions = tuple(f"{each}." for each in _called_heads(tensors))
    entries = {name: tensors.entries[name] for name in tensors.names if name.startswith(regions)} if regions else {}
    layer = _linear(entries)
    return layer if layer is not None and _fits(entries[f"{layer}.weight"], tensors) else None


def _fits(weight: Entry, tensors: Renamed) -> bool:
    """Whether a layer takes the width of tokens, of one or of several side by side."""
    widths = {entry.shape[0] for entry in tensors.entries.values() if len(entry.shape) == 1}
    return any(weight.shape[1] == share * each for each in widths for share in _WIDTHS)


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
