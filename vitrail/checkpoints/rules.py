"""Two-way rules between our tensor names and another library's: loading reads the table forwards, saving backwards.

A dialect's table may name more than a model has: a rule counts only where the model has its ``ours``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from pathlib import Path

import torch
from torch import Tensor

from vitrail.checkpoints import extras
from vitrail.checkpoints.containers import Tensors, fill, require_finite, room
from vitrail.errors import UserError
from vitrail.ops.grid import Pair

Read = Callable[[Sequence[Tensor]], Tensor]
Write = Callable[[Tensor], Sequence[Tensor]]


@dataclass(frozen=True)
class Rule:
    """One of our tensors, and the tensors of the other side that it is made of.

    Attributes:
        read: theirs → ours; it is tried on the meta device first, so it may not look at values.
        write: ours → theirs, the exact inverse to the bit.
        direct: what ``write`` gives are contiguous views that make up ours, so a file is read straight into them.
    """

    ours: str
    theirs: tuple[str, ...]
    read: Read
    write: Write
    direct: bool = False


def same(ours: str, theirs: str) -> Rule:
    """The same tensor under another name; axes of length 1 may be missing in theirs on reading."""
    return Rule(ours, (theirs,), lambda parts: parts[0], lambda value: (value,), direct=True)


def shaped(ours: str, theirs: str, *shape: int) -> Rule:
    """The same numbers, in ``shape`` on their side (one length may be −1)."""
    return Rule(ours, (theirs,), lambda parts: parts[0], lambda value: (value.reshape(shape),), direct=True)


def transposed(ours: str, theirs: str) -> Rule:
    """A matrix that they keep as (in, out)."""
    return Rule(ours, (theirs,), lambda parts: parts[0].T, lambda value: (value.T,))


def stacked(ours: str, *theirs: str) -> Rule:
    """Rows of ours, in equal parts under several names (queries, keys, values)."""
    return Rule(ours, theirs, lambda parts: torch.cat(list(parts)), lambda value: value.chunk(len(theirs)), direct=True)


def rows(ours: str, theirs: str, first: int, last: int, of: int) -> Rule:
    """Parts ``first`` to ``last`` (exclusive) of their rows, which are cut into ``of`` equal parts.

    The rules of one of their tensors together cover its rows, in the order of our state dict.
    """

    def read(parts: Sequence[Tensor]) -> Tensor:
        length = len(parts[0]) // of
        return parts[0][first * length : last * length]

    return Rule(ours, (theirs,), read, lambda value: (value,))


def mapped(ours: str, theirs: str, read: Callable[[Tensor], Tensor], write: Callable[[Tensor], Tensor]) -> Rule:
    """Any pair of inverse maps of one tensor."""
    return Rule(ours, (theirs,), lambda parts: read(parts[0]), lambda value: (write(value),))


def patches_last(ours: str, theirs: str, channels: int, patch: Pair) -> Rule:
    """A last axis that is a flattened patch: theirs runs (height, width, channel), ours (channel, height, width)."""

    def read(value: Tensor) -> Tensor:
        value = value.unflatten(-1, (*patch, channels)).movedim(-1, -3)
        return value.flatten() if value.ndim == 3 else value

    def write(value: Tensor) -> Tensor:
        value = value.unflatten(0, (channels, *patch)) if value.ndim == 1 else value
        return value.movedim(-3, -1).flatten(-3)

    return mapped(ours, theirs, read, write)


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
    return [rule for i in range(count) for rule in under(ours.format(i=i, n=i + 1), theirs.format(i=i, n=i + 1), rules)]


def nth(rule: Rule, i: int) -> Rule:
    """The rule where each of theirs holds all blocks along a leading axis; such a file is only read."""

    def write(value: Tensor) -> Sequence[Tensor]:
        raise AssertionError(f"{rule.theirs} would need every block")

    return replace(rule, read=lambda parts: rule.read([part[i] for part in parts]), write=write, direct=False)


@dataclass(frozen=True)
class Plan:
    """How an open file of another library becomes our state dict; :func:`plan` makes it.

    Attributes:
        tensors: the open file.
        like: what we need, by name.
        table: the rule for each of ours.
        names: a name in the rules → the name in the file.
        left_out: names in the file of tensors that are no part of a model, such as a loss's.
    """

    tensors: Tensors
    like: Mapping[str, Tensor]
    table: Mapping[str, Rule]
    names: Mapping[str, str]
    left_out: tuple[str, ...] = ()


def plan(
    tensors: Tensors,
    rules: Iterable[Rule],
    like: Mapping[str, Tensor],
    *,
    canonical: Callable[[str], str] = str,
    ignored: Collection[str] = (),
) -> Plan:
    """Compare an open file with what we need, on the meta device: no tensor is read.

    Args:
        like: what we need, by name.
        canonical: a name in the file → the name in the rules.
        ignored: patterns of canonical names that may be left over.

    Raises:
        UserError: tensors are missing, left over, or of a shape that does not fit.
    """
    table = _needed(rules, like)
    names = {canonical(name): name for name in tensors.entries}
    entries = {name: tensors.entries[theirs] for name, theirs in names.items()}
    if len(entries) < len(tensors.entries):
        raise UserError(f"{tensors.path} holds tensors twice under different names; keep one of each")
    _refuse(tensors.path, "has no counterpart of our", [name for name in like if name not in table])
    used = {part for name in like for part in table[name].theirs}
    _refuse(tensors.path, "lacks", sorted(used - entries.keys()))
    left = [n for n in entries if n not in used and not any(fnmatchcase(n, pattern) for pattern in ignored)]
    left_out = [name for name in left if extras.is_beside(name, entries[name])]
    _refuse(tensors.path, "has the unknown", [name for name in left if name not in left_out])
    wrong = []
    for name, meta in like.items():
        parts = [torch.empty(entries[part].shape, device="meta") for part in table[name].theirs]
        if not all(entries[part].dtype.is_floating_point for part in table[name].theirs) or not _fits(
            table[name], parts, meta
        ):
            wrong.append((table[name].theirs or (name,))[0])
    _refuse(tensors.path, "has a shape or dtype that does not fit for", wrong)
    return Plan(tensors, like, table, names, tuple(names[name] for name in left_out))


def load(plan: Plan) -> dict[str, Tensor]:
    """Our state dict, in the dtypes of what we need.

    Raises:
        UserError: the file cannot be read to the end, or holds NaN or infinity.
    """
    tensors, like, table, found = plan.tensors, plan.like, plan.table, plan.names
    left = Counter(part for name in like for part in table[name].theirs)
    shared: dict[str, Tensor] = {}  # what several rules read is kept until the last of them

    def read(part: str) -> Tensor:
        left[part] -= 1
        value = shared.pop(part) if part in shared else tensors.read(found[part])
        if left[part]:
            shared[part] = value
        return value

    def direct(rule: Rule, dtype: torch.dtype) -> bool:
        return rule.direct and all(left[p] == 1 and tensors.entries[found[p]].dtype == dtype for p in rule.theirs)

    state = room({name: meta for name, meta in like.items() if direct(table[name], meta.dtype)})
    places: dict[str, Tensor] = {}
    for name, value in state.items():
        places |= zip((found[part] for part in table[name].theirs), table[name].write(value), strict=True)
    fill(places, tensors)
    for name, meta in like.items():
        if name not in state:
            value = table[name].read([read(part) for part in table[name].theirs])
            state[name] = value.reshape(meta.shape).to(meta.dtype).contiguous()
            require_finite({name: state[name]}, tensors.path)
    return state


def save(state: Mapping[str, Tensor], rules: Iterable[Rule], where: str) -> dict[str, Tensor]:
    """Their tensors from our state dict.

    Raises:
        UserError: a tensor of ours that their format has no place for; ``where`` names the format.
    """
    table = _needed(rules, state)
    if homeless := [name for name in state if name not in table]:
        raise UserError(f"{where} has no place for {', '.join(homeless[:3])}; save as native instead")
    written: dict[str, Tensor] = {}
    for ours, value in state.items():
        for name, part in zip(table[ours].theirs, table[ours].write(value), strict=True):
            written[name] = torch.cat((written[name], part)) if name in written else part
    return {name: value.contiguous() for name, value in written.items()}


def _needed(rules: Iterable[Rule], like: Mapping[str, Tensor]) -> dict[str, Rule]:
    table: dict[str, Rule] = {}
    for rule in rules:
        if rule.ours in like:
            assert rule.ours not in table, f"two rules for {rule.ours}"
            table[rule.ours] = rule
    return table


def _fits(rule: Rule, parts: Sequence[Tensor], meta: Tensor) -> bool:
    try:
        if rule.direct:
            return [_lengths(view) for view in rule.write(meta)] == [_lengths(part) for part in parts]
        return _lengths(rule.read(parts)) == _lengths(meta)
    except (RuntimeError, IndexError, ValueError):
        return False


def _lengths(value: Tensor) -> list[int]:
    return [n for n in value.shape if n != 1]


def _refuse(path: Path, problem: str, names: Sequence[str]) -> None:
    if names:
        more = f" and {len(names) - 3} more" if len(names) > 3 else ""
        raise UserError(f"{path} {problem} {', '.join(names[:3])}{more}; it is another model than it seems")
