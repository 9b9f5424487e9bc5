"""A data set of the Hugging Face hub by name, ``huggingface:user/name`` (or ``user/name:config``), or a saved folder.

Needs the extra ``datasets``. Without ``download=true`` only what is in the hub's local cache is read.
"""

from __future__ import annotations

import dataclasses
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vitrail import console
from vitrail.data.indexing.grouped import encode_groups, encode_times
from vitrail.data.indexing.labels import encode, from_values
from vitrail.data.indexing.splits import is_split_word
from vitrail.data.media.decode import BadImage
from vitrail.data.media.read import read_regular
from vitrail.data.source import SPLITS, Source, SourceConfig, split_called
from vitrail.data.targets import Raw
from vitrail.errors import UserError, did_you_mean


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


class Dataset(Protocol):
    """What is read of a ``datasets.Dataset``."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Rows(Source):
    """The image column of a ``datasets.Dataset`` (which sends itself to workers as a path where it lies on disk)."""

    rows: Dataset
    column: str
    label: str

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        return f"{self.label}[{index}]"

    def read(self, index: int) -> bytes:
        cell: dict[str, Any] | None = self.rows[index][self.column]
        content: bytes | None = None if cell is None else cell["bytes"]
        if content is not None:
            return content
        if cell is None or cell["path"] is None:
            raise BadImage("has no image")
        return read_regular(cell["path"])


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError without the extra, without the data, and without an image or a label column."""
    sources: dict[str, Source] = {}
    raw: dict[str, Raw] = {}
    groups: dict[str, list[str]] = {}
    names: tuple[str, ...] = ()
    stored: dict[str, list[object]] = {}
    listed = False
    for split, rows in _open(config).items():
        image_column = _image_column(rows, config)
        sources[split] = Rows(
            rows=_undecoded(rows, image_column),
            column=image_column,
            label=f"{config.location}/{split}",
            targets=np.empty(0, np.float32),
            kind="none",
            classes=(),
            times=_times(rows, f"{config.location}/{split}", config),
        )
        if config.group_column is not None:
            groups[split] = _cells(rows, config.group_column, config)
        if config.labelled:
            column = _label_column(rows, image_column, config)
            values = list(rows[column])
            if all(value is None or value == -1 for value in values):  # the hub's marks of a hidden test set
                console.note(f"{config.spec}: skipped the {split} split, whose labels are withheld")
                del sources[split]
                groups.pop(split, None)
                continue
            stored[split] = values
            feature = rows.features[column]
            inner = getattr(feature, "feature", feature)
            names, listed = tuple(getattr(inner, "names", None) or ()), inner is not feature
    try:
        every = from_values([value for values in stored.values() for value in values], ids=bool(listed and names))
    except ValueError as error:
        raise UserError(f"{config.spec!r}: {error}") from None
    begin = 0
    for split, values in stored.items():
        raw[split] = every[begin : begin + len(values)]
        begin += len(values)
    for split, numbers in (encode_groups(groups) if groups else {}).items():
        sources[split] = dataclasses.replace(sources[split], groups=numbers)
    if not config.labelled:
        return sources
    labels = encode(
        raw,
        kind=config.kind,
        classes=config.known_classes or names,
        where=lambda split, i: f"the label of {sources[split].name(i)}",
    )
    return {split: source.labelled(labels[split]) for split, source in sources.items()}


def _open(config: SourceConfig) -> dict[str, Any]:
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import datasets
    except ImportError:
        raise UserError("Hugging Face data needs an extra; run: pip install 'vitrail[datasets]'") from None
    if not config.location:
        raise UserError("the source 'huggingface' needs a name; write huggingface:USER/NAME")
    try:
        if config.path.is_dir():
            opened = datasets.load_from_disk(str(config.path))
        else:
            name, _, part = config.location.partition(":")
            local = datasets.DownloadConfig(local_files_only=not config.download)
            opened = datasets.load_dataset(name, part or None, cache_dir=config.root, download_config=local)
    except Exception as error:  # the hub's own errors, and damaged files, which are read with no check of their kinds
        local_hint = "save it again with save_to_disk" if config.path.is_dir() else "fetch it with download=true"
        hint = "check the name" if config.download else local_hint
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{config.spec!r} cannot be opened: {cause}; {hint}") from None
    parts = opened if isinstance(opened, dict) else {"train": opened}
    found: dict[str, Any] = {}
    others = [name for name in parts if split_called(name) is None]
    for split in SPLITS:
        named = [name for name in parts if split_called(name) == split]
        exact = [name for name in named if is_split_word(name)] or named
        if len(exact) > 1:
            raise UserError(
                f"{config.spec!r} has the splits {' and '.join(exact)}, both for {split}; save those you mean as one"
            )
        others += [name for name in named if name not in exact]
        if exact:
            found[split] = parts[exact[0]]
    if not found:
        raise UserError(f"{config.spec!r} has the splits {', '.join(parts)}, of which none is train, val or test")
    if others:
        console.note(f"{config.spec}: skipped {', '.join(others)} beside the splits")
    return found


def _image_column(rows: Any, config: SourceConfig) -> str:
    import datasets

    columns = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    if config.path_column is not None and config.path_column not in columns:
        raise UserError(f"{config.spec!r} has no image column {config.path_column!r}; {did_you_mean('', columns)}")
    if not columns:
        raise UserError(f"{config.spec!r} has no column of images; choose a data set that has one")
    return config.path_column or columns[0]


def _cells(rows: Any, column: str, config: SourceConfig) -> list[str]:
    """A column of groups or times as text."""
    if column not in rows.column_names:
        raise UserError(f"{config.spec!r} has no column {column!r}; {did_you_mean(column, rows.column_names)}")
    return [str(value) for value in rows[column]]


def _times(rows: Any, where: str, config: SourceConfig) -> np.ndarray | None:
    if config.time_column is None:
        return None
    return encode_times(_cells(rows, config.time_column, config), lambda place: f"{where}[{place}]")


def _undecoded(rows: Any, column: str) -> Any:
    import datasets

    return rows.select_columns([column]).cast_column(column, datasets.Image(decode=False))


def _label_column(rows: Any, image_column: str, config: SourceConfig) -> str:
    others = [name for name in rows.column_names if name != image_column]
    wanted = config.label_columns[:1] or ("label", "labels", "fine_label", "class", "target")
    found = next((name for name in wanted if name in others), None)
    if found is None:
        raise UserError(f"{config.spec!r} has the columns {', '.join(others)}; name the label with label_columns=")
    return found
