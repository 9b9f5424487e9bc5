"""Where one of our tensors lies in a file of other names, and the two-way rule that follows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from vitrail.checkpoints.rules import Rule, patches_last, same, shaped, transposed
from vitrail.errors import UserError
from vitrail.vit_config import ViTConfig

HWC = "hwc"


@dataclass(frozen=True)
class Place:
    """The tensors of a file that make up one of ours.

    Attributes:
        names: several are joined along their rows: queries, keys and values, or queries and both others.
        shape: in the file, where it is not ours.
        order: ``hwc`` where the last axis is a flattened patch whose channels run fastest.
        transposed: a matrix that is kept as (in, out).
    """

    names: tuple[str, ...]
    shape: tuple[int, ...] = ()
    order: str = ""
    transposed: bool = False

    @classmethod
    def read(cls, written: object) -> Place:
        """From YAML: a name, a list of names, or a mapping with ``name`` and what differs.

        Raises:
            UserError: anything else.
        """
        if isinstance(written, str):
            return cls((written,))
        if isinstance(written, list) and 2 <= len(written) <= 3 and all(isinstance(name, str) for name in written):
            return cls(tuple(written))
        if isinstance(written, dict) and isinstance(written.get("name"), str):
            rest = {key: value for key, value in written.items() if key != "name"}
            shape, order, flipped = rest.pop("shape", []), rest.pop("order", ""), rest.pop("transposed", False)
            sizes = isinstance(shape, list) and all(type(size) is int for size in shape)
            if not rest and sizes and order in ("", HWC) and isinstance(flipped, bool):
                return cls((written["name"],), tuple(shape), order, flipped)
        raise UserError(
            f"{written!r} is no place of a tensor; write its name, a list of two or three names whose rows are joined, "
            "or {name: NAME} with shape: [1, -1], order: hwc or transposed: true"
        )

    def written(self) -> Any:
        """For YAML, as :meth:`read` takes it."""
        if len(self.names) > 1:
            return list(self.names)
        more: dict[str, Any] = {"shape": list(self.shape)} if self.shape else {}
        more |= {"order": self.order} if self.order else {}
        more |= {"transposed": True} if self.transposed else {}
        return {"name": self.names[0], **more} if more else self.names[0]

    def rule(self, ours: str, vit: ViTConfig) -> Rule:
        """The rule between the two."""
        if len(self.names) > 1:
            return _joined(ours, self.names)
        (name,) = self.names
        if self.order == HWC:
            return patches_last(ours, name, vit.channels, vit.patch_size)
        if self.transposed:
            return transposed(ours, name)
        return shaped(ours, name, *self.shape) if self.shape else same(ours, name)


def rules(places: Mapping[str, Place], vit: ViTConfig) -> list[Rule]:
    """The rules of a whole table; ``{i}`` in the names of both sides is a block's number, ``{n}`` that from 1 on."""
    found = []
    for ours, place in places.items():
        count = vit.depth if "{i}" in ours else 1
        for i in range(count):
            names = tuple(_numbered(name, i) for name in place.names)
            one = Place(names, place.shape, place.order, place.transposed)
            found.append(one.rule(_numbered(ours, i), vit))
    return found


def _numbered(name: str, i: int) -> str:
    return name.replace("{i}", str(i)).replace("{n}", str(i + 1))


def _joined(ours: str, theirs: tuple[str, ...]) -> Rule:
    """Queries, keys and values; with two names the second holds keys and values."""
    shares = (1, 1, 1) if len(theirs) == 3 else (1, 2)

    def write(value: torch.Tensor) -> tuple[torch.Tensor, ...]:
        part = len(value) // 3
        return value.split([share * part for share in shares])

    return Rule(ours, theirs, lambda parts: torch.cat(list(parts)), write, direct=True)
