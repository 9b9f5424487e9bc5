"""What resuming needs, saved so that a kill at any moment costs at most one save interval.

``state/00000007/`` holds ``state.safetensors`` (weights, their average, optimizer), ``state.json`` (counters of the
loop) and ``manifest.json`` (the SHA-256 of both). A save is written to a temporary folder, synced and renamed; the last
two are kept; a damaged one is skipped for the one before.

Random numbers need no restoring: steps seed the generator from (seed, step, rank), the loader its own from their keys.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail import files
from vitrail.checkpoints import native
from vitrail.console import note, warn
from vitrail.errors import UserError
from vitrail.train.distributed import World, gather, placed_like
from vitrail.train.ema import Ema
from vitrail.trainable import Trainable

KEEP = 2
FILES = {"state.json", "state.safetensors"}


@dataclass
class LoopState:
    """The progress of a training: everything that a step changes and that is no tensor."""

    epoch: int = 0
    step: int = 0  # optimizer steps since the beginning
    step_in_epoch: int = 0
    faults: int = 0  # consecutive losses that were not finite
    counted: int = 0  # steps summed up in ``sums``
    sums: dict[str, float] = field(default_factory=dict)  # of this epoch's losses
    norm: float = 0.0  # of the last gradient
    best: float | None = None  # of the monitored metric
    best_epoch: int | None = None
    stale: int = 0  # evaluations since the best


@dataclass
class TrainState:
    """Everything that a step changes."""

    model: Trainable
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    scaler: torch.amp.GradScaler | None
    loop: LoopState

    def evaluated(self) -> Trainable:
        """The module with the weights to evaluate and release: the average if there is one."""
        return self.model if self.ema is None else self.ema.module


@dataclass(frozen=True)
class Saved:
    """A state read back."""

    tensors: dict[str, Tensor]
    info: dict[str, Any]
    where: Path

    def restore_weights(self, model: Trainable, ema: Ema | None) -> None:
        """Load weights and their average, before sharding."""
        native.load_into(model, self._part("task/"), where=self.where)
        if ema is not None:
            native.load_into(ema.module, self._part("ema/"), where=self.where)
            ema.n_averaged.fill_(self.info["ema_updates"])

    def restore(self, state: TrainState, world: World) -> None:
        """Load the rest, after sharding: the optimizer's state is placed as its parameters are.

        Parallel sums depend on the number of threads, so a run continues with the number that it began with.
        """
        parameters = dict(state.model.named_parameters())
        fused = state.optimizer.defaults.get("fused")
        for key, value in self._part("optimizer/").items():
            name, _, slot = key.rpartition("/")
            like = parameters[name]
            count = value.ndim == 0 and not fused  # only fused kernels keep their step count on the device
            state.optimizer.state[like][slot] = value if count else placed_like(value, like)
        if state.scaler is not None:
            state.scaler.load_state_dict(self.info["scaler"])
        vars(state.loop).update(self.info["position"])
        if world.device.type == "cpu" and (threads := self.info["threads"]) != torch.get_num_threads():
            note(f"threads: {threads}, as before, not {torch.get_num_threads()}: the result stays the same to the bit")
            torch.set_num_threads(threads)
        if world.size != self.info["world_size"]:
            warn(f"{self.info['world_size']} processes before, {world.size} now: the same up to rounding")

    def _part(self, prefix: str) -> dict[str, Tensor]:
        return {key.removeprefix(prefix): value for key, value in self.tensors.items() if key.startswith(prefix)}


def save(folder: Path, state: TrainState, world: World) -> None:
    """Write the next state into ``folder``; all ranks call it, the main one writes.

    Raises:
        UserError: the disk is full or failing; the states that were there are untouched.
    """
    tensors = _tensors(state)
    if world.is_main:
        serial = max((int(path.name) for path in _states(folder)), default=0) + 1
        with files.replacing(folder / f"{serial:08d}", size=sum(t.nbytes for t in tensors.values())) as temporary:
            temporary.mkdir()
            native.write(temporary / "state.safetensors", tensors, {})
            (temporary / "state.json").write_text(json.dumps(_info(state, world), allow_nan=False))
            digests = {path.name: _sha256(path) for path in sorted(temporary.iterdir())}
            (temporary / "manifest.json").write_text(json.dumps({"sha256": digests}))
        _remove_old(folder)
    world.barrier()


def load(folder: Path) -> Saved | None:
    """The newest intact state, or None if nothing was saved yet.

    Raises:
        UserError: there are states, and all are damaged.
    """
    states = _states(folder)
    for path in reversed(states):
        if reason := damage(path):
            warn(f"{path} is damaged ({reason}); using the state before it")
            continue
        info = json.loads((path / "state.json").read_text())
        return Saved(native.load(path / "state.safetensors").state, info, path)
    if states:
        raise UserError(f"every state in {folder} is damaged; start again under another --name")
    return None


def clean(folder: Path) -> None:
    """Remove what a killed save left behind or did not remove."""
    for leftover in folder.glob(".*.tmp"):
        files.remove(leftover)
    _remove_old(folder)


def damage(path: Path) -> str | None:
    """What is wrong with a state's files, or None."""
    try:
        digests = json.loads((path / "manifest.json").read_text())["sha256"]
        if digests.keys() != FILES:  # no other path is opened, and both files must be listed
            return "manifest.json does not list the files of a state"
        for name, digest in digests.items():
            if _sha256(path / name) != digest:
                return f"{name} is not what was written"
    except OSError as error:
        return f"{Path(error.filename).name}: {error.strerror}"
    except (ValueError, KeyError, TypeError, AttributeError):
        return "manifest.json is not readable"
    return None


def _remove_old(folder: Path) -> None:
    for old in _states(folder)[:-KEEP]:
        files.remove(old)


def _states(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("[0-9]*") if re.fullmatch("[0-9]{8,18}", path.name))


def _tensors(state: TrainState) -> dict[str, Tensor]:
    parts: dict[str, Tensor] = {f"task/{key}": value for key, value in state.model.state_dict().items()}
    if state.ema is not None:
        parts |= {f"ema/{key}": value for key, value in state.ema.module.state_dict().items()}
    for name, parameter in state.model.named_parameters():
        slots = state.optimizer.state.get(parameter, {})
        parts |= {f"optimizer/{name}/{slot}": value for slot, value in slots.items() if value is not None}
    return {key: gather(value) for key, value in parts.items()}


def _info(state: TrainState, world: World) -> dict[str, object]:
    generator = torch.cuda.get_rng_state() if world.device.type == "cuda" else torch.get_rng_state()
    return {
        "position": asdict(state.loop),
        "ema_updates": None if state.ema is None else int(state.ema.n_averaged),
        "scaler": None if state.scaler is None else state.scaler.state_dict(),
        "rng_sha256": hashlib.sha256(generator.numpy().tobytes()).hexdigest(),
        "threads": torch.get_num_threads(),
        "world_size": world.size,
    }


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
