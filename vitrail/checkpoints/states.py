"""Which mapping in a training's checkpoint is the model: averages first, and parts that were saved side by side.

A mapping under the first of :data:`NESTS` that holds weights is taken, else the largest that does, again and again.
What is saved beside it is another state of the same model, with the same names; or a part of it, such as its head,
under a name of its own: parts are put together.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torch import Tensor

from vitrail.checkpoints.heads import NAMED
from vitrail.checkpoints.wrappers import AVERAGED, AVERAGING

NESTS = (  # averaged weights come first
    *AVERAGED, "model", "state_dict", "model_state_dict", "model_state", "module", "net", "network", "params",
    "weights", "student",
)  # fmt: skip
MAX_NESTS = 4
PLACES = ("callbacks", "optimizer_states")  # of Lightning, some of which keep an average of the model
_WORD = re.compile(r"[^A-Za-z0-9]+|(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


def chosen(content: Mapping[Any, Any]) -> tuple[dict[str, Any], str]:
    """The weights by name, and where in the file they stood beside others; "" where there was no choice."""
    if (average := _of_callbacks(content)) is not None:
        return average
    taken: list[str] = []
    several = False
    for _ in range(MAX_NESTS):
        states = {name: value for name, value in content.items() if isinstance(name, str) and holds_weights(value)}
        known = [name for wanted in NESTS for name in states if name.lower() == wanted]
        own = any(_is_weight(value) for value in content.values())
        if not known and (own or not states):
            break
        name = known[0] if known else max(states, key=lambda each: _size(states[each]))
        if parts := _parts(states, name, known=bool(known)):
            return _together({each: states[each] for each in (name, *parts)}), ".".join(taken)
        several = several or len(states) > 1
        taken.append(name)
        content = states[name]
    return {name: value for name, value in content.items() if isinstance(name, str)}, ".".join(taken) if several else ""


def holds_weights(value: object, depth: int = MAX_NESTS) -> bool:
    """Whether it is a mapping with weights by name, or with such a mapping in it."""
    if not isinstance(value, Mapping) or not depth:
        return False
    named = [inner for name, inner in value.items() if isinstance(name, str)]
    return any(_is_weight(inner) or holds_weights(inner, depth - 1) for inner in named)


def _parts(states: Mapping[str, Any], name: str, *, known: bool) -> list[str]:
    """The other mappings that belong to the model of ``name``: those called like a head, and where nothing tells which
    one is the model, those that have other tensors."""
    own = {each for each, _ in _flat(states[name])}
    found = []
    for other in states:
        if other == name or other.lower() in NESTS:
            continue
        differs = own.isdisjoint(each for each, _ in _flat(states[other]))
        if differs and (NAMED.search(other) or not known):
            found.append(other)
    return found


def _together(parts: Mapping[str, Any]) -> dict[str, Any]:
    """All tensors under the names of their parts."""
    return {f"{part}.{name}": value for part, state in parts.items() for name, value in _flat(state)}


def _flat(value: Mapping[Any, Any], depth: int = MAX_NESTS) -> Iterator[tuple[str, Tensor]]:
    """Tensors by dotted name; the names of mappings of :data:`NESTS` are left out."""
    for name, inner in value.items():
        if isinstance(inner, Tensor) and isinstance(name, str):
            yield name, inner
        elif isinstance(inner, Mapping) and depth and isinstance(name, str):
            prefix = "" if name.lower() in NESTS else f"{name}."
            yield from ((prefix + each, tensor) for each, tensor in _flat(inner, depth - 1))


def _of_callbacks(content: Mapping[Any, Any]) -> tuple[dict[str, Any], str] | None:
    """An average that a callback or an optimizer of Lightning keeps of the checkpoint's model, with what it does not
    average."""
    trained = content.get("state_dict")
    if not isinstance(trained, Mapping):
        return None
    model = {name: value for name, value in trained.items() if isinstance(name, str) and isinstance(value, Tensor)}
    for place in PLACES:
        for path, state in _averages(content.get(place), place, named=False):
            for names in _named(state, model):
                weights = {name: value.shape for name, value in names.items() if _is_weight(value)}
                if weights and all(name in model and model[name].shape == shape for name, shape in weights.items()):
                    return model | {name: value for name, value in names.items() if name in model}, path
    return None


def _named(state: Mapping[Any, Any] | Sequence[Any], model: Mapping[str, Tensor]) -> Iterator[dict[str, Any]]:
    """An average by the names of the model: in its order, or under its names without a wrapper's."""
    if not isinstance(state, Mapping):
        if len(state) == len(model):
            yield dict(zip(model, state, strict=True))
        return
    for prefix in ("", *dict.fromkeys(name.partition(".")[0] + "." for name in model)):
        yield {f"{prefix}{name}": value for name, value in state.items() if isinstance(name, str)}


def _averages(
    value: object, path: str, *, named: bool, depth: int = MAX_NESTS
) -> Iterator[tuple[str, Mapping[Any, Any] | Sequence[Any]]]:
    """Mappings and lists of weights on a path that says that they are an average."""
    inside = value.items() if isinstance(value, Mapping) else enumerate(value) if isinstance(value, list) else ()
    for name, inner in inside:
        if not isinstance(inner, Mapping | list | tuple) or not depth:
            continue
        averaged = named or not AVERAGING.isdisjoint(word.lower() for word in _WORD.split(str(name)))
        tensors = inner.values() if isinstance(inner, Mapping) else inner
        if averaged and any(_is_weight(each) for each in tensors):
            yield f"{path}.{name}", inner
        yield from _averages(inner, f"{path}.{name}", named=averaged, depth=depth - 1)


def _is_weight(value: object) -> bool:
    """Whether it is a tensor that is no counter."""
    return isinstance(value, Tensor) and value.is_floating_point() and value.ndim > 1


def _size(value: object, depth: int = MAX_NESTS) -> int:
    if isinstance(value, Tensor):
        return value.numel()
    return sum(_size(inner, depth - 1) for inner in value.values()) if isinstance(value, Mapping) and depth else 0
