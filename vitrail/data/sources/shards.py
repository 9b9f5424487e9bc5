"""WebDataset tar shards: a ``.tar``, a folder of them, or a pattern such as ``train-{000..009}.tar`` or ``x-*.tar``.

A sample is the files that share a name up to its first dot: one image, and its label in ``.cls`` (an integer),
``.json`` (the field ``label``) or ``.txt`` (a name), looked for in this order. Shards are read in place at random;
pickles are refused. Shards whose path names a split belong to it, all others to train.
"""

from __future__ import annotations

import glob
import itertools
import json
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitrail import console
from vitrail.data.indexing.index import Strings, Table, cached
from vitrail.data.indexing.labels import encode, from_values, is_integer
from vitrail.data.indexing.names import classes_beside
from vitrail.data.indexing.splits import is_split_word
from vitrail.data.indexing.system_files import within_system
from vitrail.data.media.formats import SUFFIXES
from vitrail.data.media.read import read_regular
from vitrail.data.source import SPLITS, Source, SourceConfig, split_called
from vitrail.data.storage.archives import Archived, Member, members
from vitrail.data.targets import Raw
from vitrail.errors import UserError
from vitrail.files import literal_first

LABELS = ("cls", "json", "txt")
LABEL_FIELDS = ("label", "labels", "cls", "class", "target")
PICKLES = ("pyd", "pkl", "pickle", "pth", "pt")
_MAX_SHARDS = 100_000
_MAX_LABEL_BYTES = 65_536
_BRACES = re.compile(r"\{(\d+)\.\.(\d+)\}")


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.suffix == ".tar" or (path.is_dir() and any(_shards_in(path)))


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for a refused or damaged shard and for a sample without its label."""
    shards = [shard.resolve() for shard in _expand(config)]
    key = "shards " + "\0".join(map(str, shards))
    table = cached(key, lambda: (_scan(shards), [bytes(shard) for shard in shards]))
    if num_skipped := int(table["num_skipped"]):
        console.note(f"{config.location}: skipped {num_skipped:,} files that are no images or labels")
    whole = Archived(
        archives=tuple(map(str, shards)),
        names=Strings.from_table(table, "names"),
        columns={name: table[name] for name in ("archive", "offset", "stored", "size", "deflated")},
        targets=np.empty(0, np.float32),
        kind="none",
        classes=(),
    )
    split_of_shard = [_split_of(shard, config.path) for shard in shards]
    split_of = np.array(split_of_shard)[whole.columns["archive"]] if len(whole) else np.empty(0, str)
    chosen = {split: indices for split in SPLITS if len(indices := np.flatnonzero(split_of == split))}
    sources = {split: whole.subset(indices) for split, indices in chosen.items()}
    if not config.labelled:
        return sources
    values = _labels(whole, table, config)
    try:
        every = from_values([values[i] for indices in chosen.values() for i in indices])
    except ValueError as error:
        raise UserError(f"{config.spec!r}: {error}") from None
    raw, begin = dict[str, Raw](), 0
    for split, indices in chosen.items():
        raw[split] = every[begin : begin + len(indices)]
        begin += len(indices)
    labels = encode(
        raw,
        kind=config.kind,
        classes=config.known_classes or classes_beside(config.path if config.path.is_dir() else config.path.parent),
        where=lambda split, i: f"the label of {sources[split].name(i)}",
    )
    return {split: source.labelled(labels[split]) for split, source in sources.items()}


def _shards_in(folder: Path) -> Iterator[Path]:
    found = itertools.chain(folder.glob("*.tar"), folder.glob("*/*.tar"), folder.glob("*/*/*.tar"))
    return (shard for shard in found if not within_system(bytes(shard.relative_to(folder))))


def _expand(config: SourceConfig) -> list[Path]:
    """The shards that the specification means, in order."""
    if config.path.is_dir():
        shards = sorted(_shards_in(config.path))
    else:
        patterns = [str(config.path)]
        while match := _BRACES.search(patterns[0]):
            low, high = match.groups()
            if int(high) - int(low) >= _MAX_SHARDS // len(patterns):
                raise UserError(f"{config.location!r} means more than {_MAX_SHARDS:,} shards; correct the braces")
            numbers = [f"{number:0{len(low)}d}" for number in range(int(low), int(high) + 1)]
            patterns = [_BRACES.sub(number, pattern, count=1) for pattern in patterns for number in numbers]
        found = [sorted(glob.glob(literal_first(pattern))) or [pattern] for pattern in patterns]
        shards = [Path(shard) for each in found for shard in each]
    if missing := [shard for shard in shards if not shard.is_file()]:
        raise UserError(f"there is no shard {str(missing[0])!r}; check the path")
    if not shards:
        raise UserError(f"{config.spec!r} holds no .tar shards; check the path")
    return shards


def _split_of(shard: Path, base: Path) -> str:
    """The split named by the shard's file or folders, as in ``imagenet-val-003.tar`` or ``val/003.tar``."""
    base = base.resolve()
    inner = shard.relative_to(base).parts[:-1] if shard.is_relative_to(base) else ()
    named = [split_called(shard.stem), *map(split_called, reversed(inner))]
    if base.is_dir():
        named.append(is_split_word(base.name))
    return next(filter(None, named), "train")


def _scan(shards: list[Path]) -> Table:
    images: list[tuple[int, Member]] = []
    labels: list[bytes] = []  # b"cls:7", b"json:{...}", b"" for none
    num_skipped = 0
    for number, shard in enumerate(console.track(shards, "indexing shards")):
        samples, others = _samples(shard)
        images += [(number, image) for image, _ in samples]
        labels += [label for _, label in samples]
        num_skipped += others
    table = Strings.of([member.name for _, member in images]).columns("names") | Strings.of(labels).columns("labels")
    for column in ("offset", "stored", "size", "deflated"):
        table[column] = np.array([getattr(member, column) for _, member in images], np.int64)
    return table | {
        "archive": np.array([number for number, _ in images], np.int32),
        "num_skipped": np.array(num_skipped),
    }


def _samples(shard: Path) -> tuple[list[tuple[Member, bytes]], int]:
    """((image, label) of each sample, number of other files)."""
    groups: dict[bytes, dict[str, Member]] = {}
    listed = members(shard)
    for member in listed:
        if within_system(member.name):
            continue
        folder, _, file = member.name.rpartition(b"/")
        stem, _, extension = file.partition(b".")
        kind = os.fsdecode(extension).lower()
        if kind.rpartition(".")[2] in PICKLES:
            shown = os.fsdecode(member.name)
            raise UserError(f"{shard} holds the pickle {shown!r}, which could run code; pack images and labels only")
        groups.setdefault(os.path.join(folder, stem), {})[kind] = member
    samples, num_used = [], 0
    for key, files in groups.items():
        images = [kind for kind in files if f".{kind}" in SUFFIXES]
        if len(images) > 1:
            shown = os.fsdecode(key)
            raise UserError(f"{shard}: the sample {shown!r} has {len(images)} images; keep one, or rename the others")
        if images:
            stored = next((kind for kind in LABELS if kind in files), None)
            label = b"" if stored is None else f"{stored}:".encode() + _read_label(shard, files[stored])
            samples.append((files[images[0]], label))
            num_used += 1 + (stored is not None)
    return samples, len(listed) - num_used


def _read_label(shard: Path, member: Member) -> bytes:
    if member.size > _MAX_LABEL_BYTES:
        raise UserError(f"{shard}: the label {os.fsdecode(member.name)!r} has {member.size:,} bytes; a label is short")
    return read_regular(shard, member.offset, member.size)


def _labels(source: Source, table: Table, config: SourceConfig) -> list[Any]:
    fields = config.label_columns or LABEL_FIELDS
    return [
        _parse_label(label, fields, source, i) for i, label in enumerate(Strings.from_table(table, "labels"))
    ]  # fmt: skip


def _digits(text: str) -> str:
    """An integer that is not written as one, such as 007, which is another class than 7."""
    int(text)
    return text


def _parse_label(label: bytes, fields: tuple[str, ...], source: Source, index: int) -> Any:
    kind, _, content = label.partition(b":")
    try:
        text = content.decode("utf-8-sig").strip()
        if kind == b"cls":
            return int(text) if is_integer(text) else _digits(text)
        if kind == b"json":
            record = json.loads(text)
            return next(record[field] for field in fields if field in record) if isinstance(record, dict) else record
        if kind == b"txt" and text:
            return text
        problem = "has no label (.cls, .json or .txt)"
    except UnicodeDecodeError:
        problem = f"has a label (.{kind.decode()}) that is not UTF-8, the encoding of such files"
    except (ValueError, RecursionError):
        problem = f"has a damaged label (.{kind.decode()})"
    except StopIteration:
        problem = f"has none of the fields {', '.join(fields)} in its .json"
    raise UserError(f"{source.name(index)} {problem}; repack the shard, or use labelled=false")
