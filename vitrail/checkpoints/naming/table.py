"""A table of names in a file: the dialect of one model, read and written as any other.

::

    task: classification
    config:
      model: {image_size: [32, 32], patch_size: [8, 8], dim: 64, ...}   # of the task
      classes: [ant, bee]
    tensors:                                                            # ours: theirs
      vit.class_token: cls_token
      vit.blocks.{i}.attention.qkv.weight: encoder.layers.{i}.self_attn.in_proj_weight
      vit.blocks.{i}.attention.qkv.bias: [...query.bias, ...key.bias, ...value.bias]
      vit.embed.projection.weight: {name: patch_to_embedding.weight, order: hwc}
    ignored: [criterion.weight]
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import torch
import yaml

from vitrail import plain_yaml, registry
from vitrail.checkpoints import parts, pooled, tensors_only
from vitrail.checkpoints.beside import MAX_JSON, Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.naming.places import Place, rules
from vitrail.checkpoints.rules import Rule
from vitrail.checkpoints.shapes import LATER, Shapes
from vitrail.config import from_dict, to_dict
from vitrail.errors import UserError, did_you_mean
from vitrail.files import Json, regular
from vitrail.nn.init import skip_init

SUFFIXES = (".yaml", ".yml")
KEYS = ("task", "config", "tensors", "ignored")


def is_table(name: str) -> bool:
    """Whether the name of a dialect is that of a file with a table."""
    return name.endswith(SUFFIXES)


@dataclass
class Table:
    """A :class:`vitrail.checkpoints.dialects.Dialect` of one model.

    Attributes:
        file: where it was read.
        config: of the task.
        places: of each of our tensors.
    """

    file: Path
    task: str
    config: Any
    places: Mapping[str, Place]
    IGNORED: tuple[str, ...] = ()
    LIBRARY: str = "table"
    TASKS: tuple[str, ...] = field(default=pooled.TASKS)
    FILE: str = "model.safetensors"
    HEAD: str = ""
    PARTS: tuple[str, ...] = parts.ALL

    def canonical(self, name: str) -> str:
        """A table has one name for each tensor."""
        return name

    def matches(self, names: Collection[str], beside: Beside) -> bool:
        """By the tensors that are no block's."""
        own = [name for ours, place in self.places.items() if "{" not in ours for name in place.names]
        return {name for name in own if not LATER.search(name)} <= set(names)

    def describe(self, shapes: Shapes, beside: Beside) -> Description:
        """What the table says."""
        return Description(self.task, self.config, tensors_only.preprocess(beside), layout=frozenset())

    def rules(self, description: Description) -> list[Rule]:
        """Of all blocks."""
        return rules(self.places, self.config.model)

    def lacks(self, description: Description) -> str | None:
        """Whatever differs from the table's own model."""
        wanted, found = to_dict(self.config), to_dict(description.config)
        differing = [key for key in wanted["model"] if wanted["model"][key] != found["model"][key] and key not in _FREE]
        if differing:
            key = differing[0]
            return f"model of {key} {found['model'][key]} (it is of {wanted['model'][key]})"
        outputs = pooled.read(Description(self.task, self.config)), pooled.read(description)
        if outputs[0].outputs != outputs[1].outputs:
            return f"head of {outputs[1].outputs} outputs (it is of {outputs[0].outputs})"
        return f"{outputs[1].pool} pooling" if outputs[0].pool != outputs[1].pool else None

    def sidecars(self, description: Description) -> dict[str, Json]:
        """Preprocessing and class names."""
        return tensors_only.sidecars(pooled.read(description))


_FREE = {"resampling"}


def read(path: str | Path) -> Table:
    """The table in a file.

    Raises:
        UserError: no such file, or no table: it is malformed, does not place a tensor of its model, or two at once.
    """
    file = Path(path)
    content = _yaml(file)
    unknown = [key for key in content if key not in KEYS]
    if unknown:
        raise UserError(f"{file}: unknown key {str(unknown[0])!r}; {did_you_mean(str(unknown[0]), KEYS)}")
    task, settings, tensors = content.get("task"), content.get("config"), content.get("tensors")
    if task not in pooled.TASKS or not isinstance(settings, dict) or not isinstance(tensors, dict):
        kinds = " or ".join(pooled.TASKS)
        raise UserError(f"{file} is no table of names: it needs task ({kinds}), config and tensors")
    ignored = content.get("ignored") or []
    if not isinstance(ignored, list) or not all(isinstance(name, str) for name in ignored):
        raise UserError(f"{file}: ignored is no list of names; write it as [criterion.*]")
    module = registry.load("tasks", str(task))
    config = from_dict(module.Config, settings, where=str(file))
    try:
        places = {str(ours): Place.read(place) for ours, place in tensors.items()}
    except UserError as error:
        raise UserError(f"{file}: {error}") from None
    table = Table(file, str(task), config, places, tuple(ignored))
    _require_complete(table, module)
    return table


def to_yaml(content: Mapping[str, Any], notes: Collection[str] = ()) -> str:
    """A table as text, with lines of notes before it."""
    text = "".join(f"# {line}\n" for line in notes)
    return text + yaml.safe_dump(dict(content), sort_keys=False, default_flow_style=None, width=120, allow_unicode=True)


def _yaml(file: Path) -> dict[str, Any]:
    try:
        if not file.is_file():
            raise UserError(f"there is no table {file}; vitrail inspect FILE --draft-names > {file} drafts one")
        if file.stat().st_size > MAX_JSON:
            raise UserError(f"{file} has more than {MAX_JSON:,} bytes; it is no table of names")
        with open(file, "rb", opener=regular) as stream:
            content = plain_yaml.parse(stream.read())
    except (OSError, ValueError) as error:
        if isinstance(error, UserError):
            raise
        reason = str(error).splitlines()[0]
        raise UserError(f"{file} cannot be read as YAML: {reason}; correct it") from None
    if not isinstance(content, dict):
        raise UserError(f"{file} is no table of names: it needs task, config and tensors")
    return content


def _require_complete(table: Table, module: Any) -> None:
    """Every tensor of the model has one place, and every place is of one tensor.

    Raises:
        UserError: with the names.
    """
    file = table.file
    try:
        with torch.device("meta"), skip_init():
            wanted = module.Task(table.config).state_dict()
    except (ValueError, RuntimeError, OverflowError) as error:
        raise UserError(f"{file}: its config builds no model: {error}; correct it") from None
    found = rules(table.places, table.config.model)
    ours = [rule.ours for rule in found]
    if strange := [name for name in ours if name not in wanted]:
        raise UserError(f"{file}: the model has no tensor {strange[0]!r}; {did_you_mean(strange[0], wanted)}")
    if missing := [name for name in wanted if name not in ours]:
        raise UserError(
            f"{file}: no place is given for {missing[0]} {list(wanted[missing[0]].shape)}; add it to tensors"
        )
    theirs = [name for rule in found for name in rule.theirs]
    if twice := next((name for name in theirs if theirs.count(name) > 1), None):
        raise UserError(f"{file}: {twice} is the place of two tensors; give each its own")
    if both := [name for name in theirs if any(fnmatchcase(name, pattern) for pattern in table.IGNORED)]:
        raise UserError(f"{file}: {both[0]} is a place and ignored; remove it from one")
    for rule in found:
        try:
            parts = rule.write(wanted[rule.ours])
            back = rule.read(list(parts))
        except (RuntimeError, IndexError, ValueError):
            parts, back = (), None
        if back is None or len(parts) != len(rule.theirs) or back.numel() != wanted[rule.ours].numel():
            shape = list(wanted[rule.ours].shape)
            raise UserError(f"{file}: {rule.ours} {shape} cannot be kept as its place says; correct the place")
