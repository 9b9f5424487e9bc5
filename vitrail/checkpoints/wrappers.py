"""Names of wrappers around a model: cut wherever they stand in a tensor's name, in every container.

Data-parallel, compiled and sharded modules leave a name inside of the path (``_orig_mod``, ``module``); a training's
own class leaves one before it (``model.backbone.``), and beside the model what belongs to the training alone.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from torch import Tensor

from vitrail.checkpoints.containers import Tensors
from vitrail.errors import UserError

INSIDE = ("_orig_mod", "module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module", "_forward_module")
"""What torch.compile, DataParallel, FSDP, activation checkpoints and Lightning's strategies put into a path."""
AVERAGED = (
    "teacher", "model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "ema", "module_ema", "params_ema",
    "averaged_model", "swa_model", "shadow",
)  # fmt: skip
"""States that a training averages, the first the most wanted: they come before those that it averages."""
TRAINED = ("base_encoder", "online_encoder", "online_network", "encoder_q", "online")
"""Of methods that compare a trained encoder with a slower copy, the trained one."""
AVERAGING = frozenset({"ema", "swa", "teacher", "averaged", "average", "averaging", "shadow"})
"""Words in longer names of such states."""
MAX_DEPTH, MAX_PREFIXES = 6, 64
_INSIDE = re.compile(rf"(?:^|(?<=[./]))(?:{'|'.join(INSIDE)})[./]")
_PART = re.compile(r"[^./]*[./]")


@dataclass
class Renamed(Tensors):
    """A view on an open file under other names.

    Attributes:
        names: by the new name, the file's.
        left_out: names in the file of tensors beside the model.
    """

    file: Tensors | None = None
    names: Mapping[str, str] = field(default_factory=dict)
    left_out: tuple[str, ...] = ()

    def read(self, name: str, out: Tensor | None = None) -> Tensor:
        assert self.file is not None
        return self.file.read(self.names[name], out)

    def close(self) -> None:
        if self.file is not None:
            self.file.close()


def renamed(tensors: Tensors, names: Mapping[str, str], left_out: Iterable[str] = ()) -> Renamed:
    """The view of an open file that has these tensors alone: new name → the name in ``tensors``."""
    entries = {new: tensors.entries[old] for new, old in names.items()}
    return Renamed(tensors.path, entries, tensors.metadata, tensors, names, tuple(left_out))


def without_inner(names: Iterable[str]) -> dict[str, str]:
    """Each name without what stands inside of it → the name; unchanged where two would be equal."""
    names = list(names)
    cut = {_INSIDE.sub("", name): name for name in names}
    return cut if len(cut) == len(names) else dict(zip(names, names, strict=True))


def prefixes(names: Iterable[str]) -> Iterator[list[str]]:
    """Beginnings of names that may be wrappers, with their last separator: none, then those of one part, of two, …

    The place in an ``nn.Sequential``, ``0.``, is a wrapper too.
    """
    names = list(names)
    yield [""]
    for depth in range(1, MAX_DEPTH + 1):
        found: dict[str, None] = {}
        for name in names:
            parts = _PART.findall(name)[:depth]
            if len(parts) == depth:
                found["".join(parts)] = None
        if not found:
            return
        yield list(found)[:MAX_PREFIXES]


def unwrapped(tensors: Tensors, matches: Callable[[Collection[str]], list[str]]) -> tuple[Renamed, list[str]]:
    """The model in an open file without its wrappers, and what ``matches`` says of its names.

    Args:
        matches: names → the dialects that they are of.

    Raises:
        UserError: several models, of which none is preferred.
    """
    names = without_inner(tensors.entries)
    for level in prefixes(names):
        found = {}
        for prefix in level:
            own = [name[len(prefix) :] for name in names if name.startswith(prefix)]
            if dialects := matches(own):
                found[prefix] = dialects
        if found:
            prefix = _preferred(found, tensors)
            inside = {name[len(prefix) :]: old for name, old in names.items() if name.startswith(prefix)}
            beside = [old for name, old in names.items() if not name.startswith(prefix)]
            return renamed(tensors, inside, beside), found[prefix]
    return renamed(tensors, names), []


def _preferred(found: Collection[str], tensors: Tensors) -> str:
    if len(found) > 1:
        for wanted in (*AVERAGED, *TRAINED):
            if chosen := [prefix for prefix in found if wanted in re.split("[./]", prefix)]:
                found = chosen
                break
        else:  # net_ema, ema_vit, teacher_model
            found = [prefix for prefix in found if not AVERAGING.isdisjoint(re.split("[./_]", prefix))] or found
    if len(found) > 1:
        raise UserError(f"{tensors.path} holds several models ({', '.join(sorted(found))}); keep the tensors of one")
    return next(iter(found))
