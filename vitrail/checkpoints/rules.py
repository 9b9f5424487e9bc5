"""Two-way rules between our tensor names and another library's: loading reads the table forwards, saving backwards.

A dialect's table may name more than a model has: a rule counts only where the model has its ``ours``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from vitrail.checkpoints.containers import Tensors
from vitrail.errors import UserError

Read = Callable[[Sequence[Tensor]], Tensor]
Write = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Rule:
    """One of our tensors, and the tensors of the other side that it is made of.

    Attributes:
        read: theirs → ours; it is tried on the meta device first, so it may not look at values.
        write: ours → theirs, the exact inverse to the bit.
    """

    ours: str
    theirs: tuple[str, ...]
    read: Read
    write: Write


def same(ours: str, theirs: str) -> Rule:
    """The same tensor under another name; axes of length 1 may be missing in theirs on reading."""
    return Rule(ours, (theirs,), lambda parts: parts[0], lambda value: (value,))


def shaped(ours: str, theirs: str, *shape: int) -> Rule:
    """The same numbers, in ``shape`` on their side (one length may be −1)."""
    return Rule(ours, (theirs,), lambda parts: parts[0], lambda value: (value.reshape(shape),))


def transposed(ours: str, theirs: str) -> Rule:
    """A matrix that they keep as (in, out)."""
    return Rule(ours, (theirs,), lambda parts: parts[0].T, lambda value: (value.T,))


def stacked(ours: str, *theirs: str) -> Rule:
    """Rows of ours, in equal parts under several names (queries, keys, values)."""
    return Rule(ours, theirs, lambda parts: torch.cat(list(parts)), lambda value: value.chunk(len(theirs)))


def mapped(ours: str, theirs: str, read: Callable[[Tensor], Tensor], write: Callable[[Tensor], Tensor]) -> Rule:
    """Any pair of inverse maps of one tensor."""
    return Rule(ours, (theirs,), lambda parts: read(parts[0]), lambda value: (write(value),))


def layer(ours: str, theirs: str) -> list[Rule]:
    """Weight and bias of a layer that both sides keep alike."""
    return [same(f"{ours}.{part}", f"{theirs}.{part}") for part in ("weight", "bias")]


def stacked_layer(ours: str, *theirs: str) -> list[Rule]:
    """Weight and bias of a layer that they keep as several."""
    return [stacked(f"{ours}.{part}", *(f"{name}.{part}" for name in theirs)) for part in ("weight", "bias")]


def under(ours: str, theirs: str, rules: Iterable[Rule]) -> list[Rule]:
    """The rules of a part, with both sides' prefixes."""
    return [replace(r, ours=ours + r.ours, theirs=tuple(theirs + name for name in r.theirs)) for r in rules]


def repeated(count: int, ours: str, theirs: str, rules: Collection[Rule]) -> list[Rule]:
    """The rules of a block for each of ``count`` blocks; ``{i}`` in the prefixes is its number.

    Google counts residual units from 1: there, write ``{n}``.
    """
    return [
        rule for i in range(count) for rule in under(ours.format(i=i, n=i + 1), theirs.format(i=i, n=i + 1), rules)
    ]


def load(
    tensors: Tensors,
    rules: Iterable[Rule],
    like: Mapping[str, Tensor],
    *,
    canonical: Callable[[str], str] = str,
    ignored: Collection[str] = (),
) -> dict[str, Tensor]:
    """Our state dict from an open file of another library, in the dtypes of ``like``.

    Everything is compared on the meta device before a tensor is read.

    Args:
        like: what we need, by name.
        canonical: a name in the file → the name in the rules.
        ignored: patterns of canonical names that may be left over.

    Raises:
        UserError: tensors are missing, left over, or of a shape that does not fit.
    """
    table = _needed(rules, like)
    check(tensors, table, like, canonical=canonical, ignored=ignored)
    found = {canonical(name): name for name in tensors.entries}
    state = {}
    for name, meta in like.items():
        rule = table[name]
        value = rule.read([tensors.read(found[part]) for part in rule.theirs])
        state[name] = value.reshape(meta.shape).to(meta.dtype).contiguous()
    return state


def check(
    tensors: Tensors,
    rules: Iterable[Rule] | Mapping[str, Rule],
    like: Mapping[str, Tensor],
    *,
    canonical: Callable[[str], str] = str,
    ignored: Collection[str] = (),
) -> None:
    """Would :func:`load` work? Nothing is read. Errors as there."""
    table = rules if isinstance(rules, Mapping) else _needed(rules, like)
    entries = {canonical(name): entry for name, entry in tensors.entries.items()}
    if len(entries) < len(tensors.entries):
        raise UserError(f"{tensors.path} holds tensors twice under different names; keep one of each")
    _refuse(tensors.path, "has no counterpart of our", [name for name in like if name not in table])
    used = {part for name in like for part in table[name].theirs}
    _refuse(tensors.path, "lacks", sorted(used - entries.keys()))
    left = [n for n in entries if n not in used and not any(fnmatchcase(n, pattern) for pattern in ignored)]
    _refuse(tensors.path, "has the unknown", left)
    wrong = []
    for name, meta in like.items():
        parts = [torch.empty(entries[part].shape, device="meta") for part in table[name].theirs]
        if not all(entries[part].dtype.is_floating_point for part in table[name].theirs):
            wrong.append(table[name].theirs[0])
        elif not _fits(table[name].read, parts, meta):
            wrong.append(table[name].theirs[0])
    _refuse(tensors.path, "has a shape or dtype that does not fit for", wrong)


def save(state: Mapping[str, Tensor], rules: Iterable[Rule], where: str) -> dict[str, Tensor]:
    """Their tensors from our state dict.

    Raises:
        UserError: a tensor of ours that their format has no place for; ``where`` names the format.
    """
    table = _needed(rules, state)
    if homeless := [name for name in state if name not in table]:
        raise UserError(f"{where} has no place for {', '.join(homeless[:3])}; save as native instead")
    return {
        name: value.contiguous()
        for ours in state
        for name, value in zip(table[ours].theirs, table[ours].write(state[ours]), strict=True)
    }


def _needed(rules: Iterable[Rule], like: Mapping[str, Tensor]) -> dict[str, Rule]:
    table: dict[str, Rule] = {}
    for rule in rules:
        if rule.ours in like:
            assert rule.ours not in table, f"two rules for {rule.ours}"
            table[rule.ours] = rule
    return table


def _fits(read: Read, parts: Sequence[Tensor], meta: Tensor) -> bool:
    try:
        found = read(parts)
    except (RuntimeError, IndexError, ValueError):
        return False
    return [n for n in found.shape if n != 1] == [n for n in meta.shape if n != 1]


def _refuse(path: Path, problem: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UserError(f"{path} {problem} {', '.join(names[:3])}{more}; it is another model than it seems")
