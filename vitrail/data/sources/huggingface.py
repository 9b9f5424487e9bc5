"""A data set of the Hugging Face hub by name, ``huggingface:user/name`` (or ``user/name:config``), a saved folder, a
``.parquet`` file or a folder of them, as ``data/train-00000-of-00001.parquet``.

Images are in a column of the type Image, or of bytes; a label is a class, several, or a number, and a column
``objects`` holds boxes. Needs the extra ``datasets``. Without ``download=true`` only what is in the hub's local cache
is read.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from vitrail import console
from vitrail.data.indexing.grouped import encode_groups, encode_times
from vitrail.data.indexing.labels import encode, from_values
from vitrail.data.media.decode import BadImage, upright_size
from vitrail.data.media.read import read_regular
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.hub_objects import objects_column, with_boxes
from vitrail.data.storage.hub_tables import is_saved, open_tables, parquet_files
from vitrail.data.targets import Raw
from vitrail.errors import UserError, did_you_mean

LABELS = ("label", "labels", "fine_label", "class", "target")


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return is_saved(path) or bool(parquet_files(path))


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
    tables = open_tables(config)
    features = next(iter(tables.values())).features
    boxes = objects_column(features)
    if config.labelled and boxes is not None and config.choose(_offered(features)) == "boxes":
        return _with_boxes(tables, boxes, config)
    return _with_labels(tables, config)


def _offered(features: Mapping[str, Any]) -> list[str]:
    """What a table with objects can be read as."""
    labels = ["class", "multilabel", "number"] if any(name in features for name in LABELS) else []
    return [*labels, "boxes"]


def _with_boxes(tables: Mapping[str, Any], column: str, config: SourceConfig) -> dict[str, Source]:
    sources = {split: _images(rows, split, config) for split, rows in tables.items()}
    sizes = {split: [_size(source, i) for i in range(len(source))] for split, source in sources.items()}
    return with_boxes(sources, tables, column, sizes, config)


def _size(source: Source, index: int) -> tuple[int, int]:
    """(height, width); (1, 1) where the image cannot be read, which loading or `data check` names."""
    try:
        content = source.read(index)
        assert isinstance(content, bytes)
        return upright_size(content)
    except BadImage:
        return (1, 1)


def _images(rows: Any, split: str, config: SourceConfig) -> Rows:
    column = _image_column(rows, config)
    return Rows(
        rows=_undecoded(rows, column),
        column=column,
        label=f"{config.location}/{split}",
        targets=np.empty(0, np.float32),
        kind="none",
        classes=(),
        times=_times(rows, f"{config.location}/{split}", config),
    )


def _with_labels(tables: Mapping[str, Any], config: SourceConfig) -> dict[str, Source]:
    sources: dict[str, Source] = {}
    raw: dict[str, Raw] = {}
    groups: dict[str, list[str]] = {}
    names: tuple[str, ...] = ()
    stored: dict[str, list[object]] = {}
    listed = False
    for split, rows in tables.items():
        sources[split] = images = _images(rows, split, config)
        if config.group_column is not None:
            groups[split] = _cells(rows, config.group_column, config)
        if config.labelled:
            column = _label_column(rows, images.column, config)
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


def _image_column(rows: Any, config: SourceConfig) -> str:
    import datasets

    columns = [name for name, feature in rows.features.items() if isinstance(feature, datasets.Image)]
    columns = columns or [name for name, feature in rows.features.items() if _holds_bytes(feature)]
    if config.path_column is not None and config.path_column not in columns:
        raise UserError(f"{config.spec!r} has no image column {config.path_column!r}; {did_you_mean('', columns)}")
    if not columns:
        raise UserError(f"{config.spec!r} has no column of images; choose a data set that has one")
    return config.path_column or columns[0]


def _holds_bytes(feature: Any) -> bool:
    """Whether a column that is not called one of images has bytes, as other programs write them."""
    if isinstance(feature, Mapping):
        return _holds_bytes(feature.get("bytes"))
    return getattr(feature, "dtype", None) in ("binary", "large_binary")


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
    wanted = config.label_columns[:1] or LABELS
    found = next((name for name in wanted if name in others), None)
    if found is None:
        raise UserError(f"{config.spec!r} has the columns {', '.join(others)}; name the label with label_columns=")
    if type(rows.features[found]).__name__ == "Image":
        raise UserError(
            f"{config.spec!r}: the column {found!r} holds images, which are masks perhaps; write the pictures into "
            "images/ and those into masks/, or name the label with label_columns="
        )
    return found
