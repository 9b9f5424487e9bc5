"""Weights of other libraries: finding the dialect of a file, and writing a model in a dialect."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from torch import Tensor

from vitrail import files, registry
from vitrail.checkpoints import heads, parts, rules, wrappers
from vitrail.checkpoints.beside import Beside, read_beside
from vitrail.checkpoints.containers import Tensors, npz, safetensors
from vitrail.checkpoints.containers.pickle import STATE
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import Dialect
from vitrail.checkpoints.naming import table
from vitrail.checkpoints.shapes import LATER
from vitrail.checkpoints.wrappers import Renamed
from vitrail.errors import UserError, did_you_mean

DIALECTS = "checkpoints.dialects"
ENTRY_POINTS = "vitrail.dialects"


@dataclass(frozen=True)
class Foreign:
    """An open file of another library whose header and JSON have been read, and no tensor yet."""

    tensors: Renamed
    dialect: str
    description: Description

    @property
    def left_out(self) -> tuple[str, ...]:
        """Names of tensors beside the model."""
        return self.tensors.left_out

    def plan(self, like: Mapping[str, Tensor]) -> rules.Plan:
        """How the file becomes the state dict of a model like this; no tensor is read.

        Raises:
            UserError: tensors are missing, left over or of another shape.
        """
        dialect = load(self.dialect)
        table = dialect.rules(self.description)
        return rules.plan(self.tensors, table, like, canonical=dialect.canonical, ignored=dialect.IGNORED)


def names() -> list[str]:
    """All dialects: ours by file name, then those of installed packages by module."""
    return [*registry.names(DIALECTS), *registry.announced(ENTRY_POINTS, tuple(sys.path))]


def load(name: str) -> Dialect:
    """The dialect of this name, in the module of a dotted name, or in the file of a table of names.

    Raises:
        UserError: there is none, or it lacks a name of the contract.
    """
    if table.is_table(name):
        return table.read(name)
    module = registry.load(DIALECTS, name)
    if not isinstance(module, Dialect):
        raise UserError(f"the module {name!r} is no dialect; vitrail.checkpoints.dialects has the names that one needs")
    return module


def find(tensors: Tensors, *, names: str | None = None, with_head: bool = True, any_name: bool = False) -> Foreign:
    """The dialect of an open weights file, and what it describes.

    Args:
        names: the dialect, or the file of a table of names; default: the one that knows the file's names.
        with_head: read the head too; otherwise it is left out, whatever it is.
        any_name: a module that is called like a head is the head, for files that the dialect does not know otherwise.

    Raises:
        UserError: of no known dialect, or the JSON next to it is damaged or hostile.
    """
    path = tensors.path
    beside = read_beside(path, tensors.metadata)
    name, model = _dialect(tensors, beside, path, names)
    dialect = load(name)
    head = getattr(dialect, "HEAD", "")
    model, about_head = (heads.named_otherwise if any_name else heads.settle)(model, head)
    if not with_head:
        model = heads.without(model, head) if head else model
    shapes = {dialect.canonical(key): entry.shape for key, entry in model.entries.items()}
    try:
        description = dialect.describe(shapes, beside)
        assumed = (*description.assumed, *about_head) if with_head else description.assumed
        if state := tensors.metadata.get(STATE):
            assumed += (f"weights: those under {state}, of several in the file",)
        return Foreign(model, name, replace(description, assumed=assumed))
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        if isinstance(error, UserError):
            raise UserError(f"{path}: {error}") from None
        raise UserError(f"{path} looks like {name}, but its shapes or config do not tell a model: {error!r}") from None


def has_known_head(tensors: Tensors, found: Foreign) -> bool:
    """Whether what was left out of a file is a head as the dialect's library has it, or one linear layer."""
    head = getattr(load(found.dialect), "HEAD", "")
    if not head or any(name.endswith(f"{head}.weight") for name in tensors.entries):
        return True
    _, model = _dialect(tensors, read_beside(tensors.path, tensors.metadata), tensors.path, found.dialect)
    settled, _ = heads.settle(model, head)
    return f"{head}.weight" in settled.names


def libraries() -> dict[str, list[str]]:
    """Every library with its dialects."""
    found: dict[str, list[str]] = {}
    for name in names():
        found.setdefault(load(name).LIBRARY, []).append(name)
    return found


def holds(task: str) -> bool:
    """Whether any dialect's files hold this task."""
    return any(task in load(name).TASKS for name in names())


def dialect_for(target: str, description: Description) -> str:
    """The dialect to write a model in.

    Args:
        target: a library, or one of its dialects, or the module of a third party's.

    Raises:
        UserError: no such library, or none of its dialects can hold the model; what each lacks is named.
    """
    known = libraries()
    dialects = known.get(target) or [name for name in names() if name == target]
    if "." in target and not dialects:
        load(target)
        dialects = [target]
    if not dialects:
        raise UserError(f"unknown library {target!r}; {did_you_mean(target, dict.fromkeys((*known, *names())))}")
    able = [name for name in dialects if description.task in load(name).TASKS]
    able.sort(key=lambda name: getattr(load(name), "LAST", False))
    lacking = {name: lacks(name, description) for name in able}
    for name, missing in lacking.items():
        if missing is None:
            return name
    if not able:
        raise UserError(f"{target} has no format for the task {description.task!r}; save the model as native")
    reasons = "; ".join(f"{name} has no {missing}" for name, missing in lacking.items())
    raise UserError(f"{target} cannot hold this model: {reasons}. Save it as native")


def lacks(name: str, description: Description) -> str | None:
    """What a dialect cannot express of a model; None: it can hold it."""
    dialect = load(name)
    if description.task not in dialect.TASKS:
        return f"format for the task {description.task!r}"
    if (missing := dialect.lacks(description)) is not None:
        return missing
    known = getattr(dialect, "PARTS", ())
    return next((part for part in parts.parts(description) if part not in known), None)


def save(name: str, out: str | Path, description: Description, state: Mapping[str, Tensor]) -> Path:
    """Write a model in a dialect: to a file if ``out`` has a suffix, else to a new folder.

    Args:
        state: of the task that the description is of.

    Raises:
        UserError: the library cannot express the model, or nothing can be written there.
    """
    dialect, out = load(name), Path(out)
    if (lacking := lacks(name, description)) is not None:
        raise UserError(f"{name} has no {lacking}, which this model has; save it as native")
    tensors = rules.save(state, dialect.rules(description), name)
    if (constants := getattr(dialect, "constants", None)) is not None:
        tensors |= constants(description)
    container = npz if dialect.FILE.endswith(".npz") else safetensors
    size = sum(value.nbytes for value in tensors.values())
    if out.suffix:
        if out.suffix not in container.SUFFIXES:
            raise UserError(f"{name} is written as {container.SUFFIXES[0]}, not {out.suffix}; name {out.name} so")
        with files.replacing(out, size=size) as temporary:
            container.write(temporary, tensors, {"format": "pt"})
        return out
    if out.exists():
        raise UserError(f"{out} exists already; choose another place")
    with files.replacing(out, size=size) as temporary:
        temporary.mkdir()
        container.write(temporary / dialect.FILE, tensors, {"format": "pt"})
        for file, content in dialect.sidecars(description).items():
            files.write_json(temporary / file, content)
    return out


def _dialect(tensors: Tensors, beside: Beside, path: Path, named: str | None) -> tuple[str, Renamed]:
    """The dialect of a file, and the model in it."""

    def matching(keys: Collection[str]) -> list[str]:
        first = [key for key in keys if not LATER.search(key)]
        tried = [named] if named is not None else names()
        dialects = ((name, load(name)) for name in tried)
        return [name for name, each in dialects if each.matches({each.canonical(key) for key in first}, beside)]

    model, found = wrappers.unwrapped(tensors, matching)
    if not found:
        some = ", ".join(list(tensors.entries)[:3])
        if named is not None:
            raise UserError(f"{path} holds no tensors by the names of {named} (its tensors: {some}, …); correct them")
        raise UserError(
            f"{path} is of no dialect that Vitrail supports (its tensors: {some}, …); if it is a ViT, "
            "`vitrail inspect FILE --draft-names` drafts a table of its names for --names"
        )
    if len(found) > 1:
        raise UserError(f"{path} holds tensors of several libraries ({', '.join(found)}); keep those of one")
    return found[0], model
