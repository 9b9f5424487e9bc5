"""What names and shapes say of a file's structure: layers of a weight and a bias, and blocks that repeat."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import islice

from vitrail.checkpoints.shapes import Shapes

MOST_NUMBERS = 8  # in the name of a tensor, of which one is its block's
_PARTED = re.compile(r"^(?P<path>.*?)[._]?(?P<part>weight|bias)$")


@dataclass(frozen=True)
class Layer:
    """Tensors of one layer by part, ``weight`` and ``bias``, or one tensor alone under the part "".

    Attributes:
        names: by part, in the file.
        shape: of the weight, or of the tensor.
    """

    path: str
    names: Mapping[str, str]
    shape: tuple[int, ...]

    @property
    def has_bias(self) -> bool:
        """Whether it has a bias."""
        return "bias" in self.names


@dataclass(frozen=True)
class Blocks:
    """Repeated parts of a model.

    Attributes:
        prefix: what stands before the number.
        first: the number of the first.
        shapes: by what stands after the number.
    """

    prefix: str
    depth: int
    first: int
    shapes: Mapping[str, tuple[int, ...]]

    def name(self, suffix: str) -> str:
        """A tensor of any block, with ``{i}`` or ``{n}`` as the number."""
        return f"{self.prefix}{'{n}' if self.first else '{i}'}.{suffix}"


def layers(shapes: Shapes) -> list[Layer]:
    """All layers of these tensors."""
    parts: dict[str, dict[str, str]] = defaultdict(dict)
    alone = []
    for name in shapes:
        found = _PARTED.match(name)
        if found is None or not found["path"]:
            alone.append(Layer(name, {"": name}, shapes[name]))
        else:
            parts[found["path"]][found["part"]] = name
    for path, names in parts.items():
        if "weight" in names:
            alone.append(Layer(path, names, shapes[names["weight"]]))
        else:
            alone.append(Layer(names["bias"], {"": names["bias"]}, shapes[names["bias"]]))
    return alone


def blocks(shapes: Shapes) -> Blocks | None:
    """The largest group of parts that are numbered and alike; None: there is none with attention and an MLP."""
    groups: dict[str, dict[int, dict[str, tuple[int, ...]]]] = defaultdict(lambda: defaultdict(dict))
    for name, shape in shapes.items():
        for number in islice(re.finditer(r"(?:^|(?<=\.))([0-9]{1,9})\.", name), MOST_NUMBERS):
            groups[name[: number.start()]][int(number[1])][name[number.end() :]] = shape
    found = []
    for prefix, members in groups.items():
        first = min(members)
        numbers = [number for number in members if members[number].items() == members[first].items()]
        if first in (0, 1) and sorted(members) == list(range(first, first + len(members))) == sorted(numbers):
            matrices = sum(len(shape) == 2 for shape in members[first].values())
            if matrices >= 3:
                found.append(Blocks(prefix, len(members), first, members[first]))
    return max(found, key=lambda each: (each.depth * len(each.shapes), -len(each.prefix)), default=None)
