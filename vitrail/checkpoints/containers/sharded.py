"""Tensors in several files: ``model.safetensors.index.json``, or ``pytorch_model.bin.index.json`` of pickles, maps each
tensor to its file in ``weight_map``.

https://huggingface.co/docs/transformers/big_models#sharding
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from vitrail.checkpoints.containers import PICKLED_INDEX, Entry, Tensors, pickle, safetensors
from vitrail.errors import UserError

SUFFIXES = (".safetensors.index.json", PICKLED_INDEX)
MAX_INDEX = 10_000_000  # bytes
MAX_SHARDS = 500


@dataclass
class Sharded(Tensors):
    """Open shards, each of whose headers was checked, and all of them against the index."""

    shards: dict[str, safetensors.SafeTensors] = field(default_factory=dict)
    weight_map: dict[str, str] = field(default_factory=dict)

    def read(self, name: str, out: Tensor | None = None) -> Tensor:
        return self.shards[self.weight_map[name]].read(name, out)

    def close(self) -> None:
        for shard in self.shards.values():
            shard.close()


def begins(head: bytes) -> bool:
    """Never: an index is JSON like any other; its name tells."""
    return False


def open_tensors(path: Path) -> Sharded:
    """Open the shards of an index, which lie next to it.

    Raises:
        UserError: absent, damaged or hostile.
    """
    refuse = safetensors.refusal(path)
    opened = Sharded(path, {}, {}, {}, _weight_map(path, refuse))
    files = sorted(set(opened.weight_map.values()))
    if len(files) > MAX_SHARDS:
        refuse(f"it names {len(files):,} shards, more than {MAX_SHARDS}")
    entries: dict[str, Entry] = {}
    container = pickle if path.name.endswith(PICKLED_INDEX) else safetensors
    try:
        for name in files:
            shard = opened.shards[name] = container.open_tensors(_inside(path.parent, name, refuse))
            for tensor, entry in shard.entries.items():
                if opened.weight_map.get(tensor) != name:
                    refuse(f"its weight_map does not place {tensor!r} in {name}, which holds it")
                entries[tensor] = entry
        if missing := opened.weight_map.keys() - entries.keys():
            refuse(f"its weight_map names {min(missing)!r}, which no shard holds")
    except BaseException:
        opened.close()
        raise
    opened.entries = entries
    return opened


def _weight_map(path: Path, refuse: Any) -> dict[str, str]:
    try:
        if not path.is_file():
            raise UserError(f"there is no index {path}; give the folder of a model")
        if (size := path.stat().st_size) > MAX_INDEX:
            refuse(f"it has {size:,} bytes, more than {MAX_INDEX:,}")
        index = safetensors.strict_json(path.read_bytes(), refuse)
    except OSError as error:
        raise UserError(f"cannot read the index {path}: {error.strerror}; fetch it again") from None
    found = index.get("weight_map") if isinstance(index, Mapping) else None
    if not isinstance(found, dict) or not found or not all(isinstance(file, str) for file in found.values()):
        refuse("its weight_map does not map tensors to files")
    assert isinstance(found, dict)
    kind = ".bin" if path.name.endswith(PICKLED_INDEX) else ".safetensors"
    for file in set(found.values()):
        if Path(file).name != file or "\\" in file or "\0" in file or not file.endswith(kind):
            refuse(f"its weight_map names {file!r}, which is no {kind} file next to it")
    return found


def _inside(folder: Path, name: str, refuse: Any) -> Path:
    """The shard, which is no link out of the folder; in the hub's cache, out of the model's blobs.

    There, ``models--owner--name/snapshots/<commit>/<file>`` links to ``models--owner--name/blobs/<hash>``.
    """
    home = folder.resolve()
    try:
        target = (home / name).resolve()
    except (OSError, RuntimeError):  # a link to itself
        target = Path()
    cache = home.parents[1] if home.parent.name == "snapshots" else home
    blobs = cache / "blobs" if cache.name.startswith("models--") else home
    if target.parent not in (home, blobs):
        refuse(f"{name} is a link to a place outside")
    return home / name
