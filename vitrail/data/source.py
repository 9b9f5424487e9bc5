"""Where samples come from: the contract of a data source, and the way from ``photos/`` to its splits."""

from __future__ import annotations

import dataclasses
import hashlib
import unicodedata
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from vitrail import console
from vitrail.data import targets
from vitrail.data.division import divide
from vitrail.data.indexing.index import Stamps
from vitrail.data.indexing.labels import NO_LABELS
from vitrail.data.indexing.nearest import data_file
from vitrail.data.indexing.splits import SPLITS as SPLITS
from vitrail.data.indexing.splits import split_called as split_called
from vitrail.data.locate import find_source, of_one_kind
from vitrail.data.source_config import SourceConfig as SourceConfig
from vitrail.data.source_config import no_such_labels
from vitrail.data.targets import Column, Labels, TargetKind
from vitrail.errors import UserError

if TYPE_CHECKING:
    from vitrail.data.media.reading import Reading
    from vitrail.data.media.windows import WindowedTiff


_FINGERPRINT_NAMES = 1000


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Source(ABC):
    """Samples by position: columns for what every sample has, and ``read`` for its image.

    Cheap to store and to send to a worker process at a million samples: columns are arrays, never Python objects.

    Attributes:
        targets: the target of each sample by position, as its kind holds them.
        kind: the name of the target kind (:mod:`vitrail.data.targets`).
        classes: K class names; for numbers the K target names; for ``none`` nothing.
        channels: of the stored images, or None where it is known only after reading the files.
        remarks: what `data check` says of the files as a whole, such as labels without an image.
        groups, times: of each sample, int64 and float64 (N,), where the config names such columns of a table.
    """

    targets: Column
    kind: str
    classes: tuple[str, ...]
    channels: int | None = None
    groups: np.ndarray | None = None
    times: np.ndarray | None = None
    remarks: tuple[str, ...] = ()

    def __repr__(self) -> str:
        named = (
            f", {len(self.classes):,} {'targets' if self.target_kind.numeric else 'classes'}" if self.classes else ""
        )
        return f"<{len(self):,} images with targets of kind {self.kind!r}{named}>"

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def name(self, index: int) -> str:
        """The printable name of a sample: a path, or ``train.npz[17]``."""

    @abstractmethod
    def read(self, index: int) -> bytes | np.ndarray:
        """The encoded image file, or its pixels as uint8 (H, W) or (H, W, C).

        Raises:
            BadImage: the sample cannot be read.
        """

    def windows(self, index: int, channels: int, reading: Reading) -> WindowedTiff | None:
        """A picture that is too large to be decoded at once, of which tiles can be read; None: any other.

        Raises:
            BadImage: the sample cannot be read so.
        """
        return None

    def stamps(self, indices: np.ndarray) -> Stamps:
        """What shows whether the pixels at ``indices`` have changed; nothing does where a source does not say."""
        nothing = np.zeros(len(indices), np.int64)
        return Stamps(nothing, nothing)

    @property
    def target_kind(self) -> TargetKind[Any, Any]:
        """What the targets are and do."""
        return targets.load(self.kind)

    def subset(self, indices: np.ndarray) -> Source:
        """The samples at ``indices`` (int, in that order)."""
        indices = np.asarray(indices, dtype=np.int64)
        return self._select(self, indices, indices)

    def _select(self, source: Source, indices: np.ndarray, own: np.ndarray) -> Subset:
        return Subset(
            source=source,
            indices=indices,
            targets=self.target_kind.take(self.targets, own),
            kind=self.kind,
            classes=self.classes,
            channels=self.channels,
            groups=None if self.groups is None else self.groups[own],
            times=None if self.times is None else self.times[own],
            remarks=self.remarks,
        )

    def labelled(self, labels: Labels) -> Source:
        """The same images with these labels."""
        return dataclasses.replace(self, kind=labels.kind, classes=labels.classes, targets=labels.targets)

    def unlabelled(self) -> Source:
        """The same images without their labels."""
        return self.labelled(NO_LABELS)

    def counts(self) -> np.ndarray | None:
        """Samples (or objects) of each class, int64 (K,); None where the target kind counts none."""
        return self.target_kind.counts(self.targets, len(self.classes))

    def strata(self) -> np.ndarray:
        """The group of each sample, int64 (N,), of which a split takes equal shares: its class, where it has one."""
        return np.asarray(self.targets) if self.target_kind.exclusive else np.zeros(len(self), np.int64)

    def fingerprint(self, beneath: str = "") -> str:
        """A SHA-256 of the labels and of up to 1,000 evenly spaced names: shows whether the data is unchanged.

        Args:
            beneath: a folder that names are taken from, where they lie in it; so data may be moved.
        """
        digest = hashlib.sha256(repr((self.kind, self.classes, len(self))).encode())
        digest.update(self.target_kind.fingerprint(self.targets))
        for index in np.linspace(0, len(self) - 1, min(len(self), _FINGERPRINT_NAMES)).astype(int):
            name = self.name(int(index)).replace("\\", "/")
            digest.update(name.removeprefix(f"{beneath}/" if beneath else "").encode())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True, eq=False, repr=False)
class Subset(Source):
    """Some samples of another source."""

    source: Source
    indices: np.ndarray

    def __len__(self) -> int:
        return len(self.indices)

    def name(self, index: int) -> str:
        return self.source.name(int(self.indices[index]))

    def read(self, index: int) -> bytes | np.ndarray:
        return self.source.read(int(self.indices[index]))

    def windows(self, index: int, channels: int, reading: Reading) -> WindowedTiff | None:
        return self.source.windows(int(self.indices[index]), channels, reading)

    def stamps(self, indices: np.ndarray) -> Stamps:
        return self.source.stamps(self.indices[indices])

    def subset(self, indices: np.ndarray) -> Source:
        return self._select(self.source, self.indices[indices], indices)


class SourceModule(Protocol):
    """What each module of :mod:`vitrail.data.sources` defines."""

    def matches(self, spec: str) -> bool:
        """Whether the path ``spec`` is data of this source; true of at most one source besides ``folder``."""

    def load(self, config: SourceConfig) -> dict[str, Source]:
        """The splits by name.

        Raises:
            UserError: the data is not there or breaks a rule.
        """


@dataclass(frozen=True, repr=False)
class Splits:
    """The sources of one data set, of one kind and with one class list."""

    train: Source | None = None
    val: Source | None = None
    test: Source | None = None

    def __repr__(self) -> str:
        sizes = ", ".join(f"{name} {len(source):,}" for name, source in self.items())
        return f"<{sizes}: {self.target_kind.describe(self.classes)}>"

    @property
    def kind(self) -> str:
        """The name of the target kind."""
        return self._any.kind

    @property
    def target_kind(self) -> TargetKind[Any, Any]:
        """What the targets are and do."""
        return self._any.target_kind

    @property
    def classes(self) -> tuple[str, ...]:
        return self._any.classes

    @property
    def channels(self) -> int | None:
        """Of the stored images; None where it is known only after reading the files."""
        return self._any.channels

    def items(self) -> Iterator[tuple[str, Source]]:
        """The splits that exist, as (name, source)."""
        for name in SPLITS:
            if (source := getattr(self, name)) is not None:
                yield name, source

    def split(self, name: str) -> Source:
        """The source of "train", "val" or "test".

        Raises:
            UserError: the data has no such split.
        """
        sources = dict(self.items())
        if name not in sources:
            raise UserError(f"the data has no split {name!r}; choose one of: {', '.join(sources)}")
        return sources[name]

    @property
    def _any(self) -> Source:
        return next(self.items())[1]


def open_source(config: SourceConfig) -> Splits:
    """Find the source that ``config.spec`` means, open it, and split off a validation set where there is none.

    Raises:
        UserError: nothing is there, or it breaks a rule (named in the message, with the remedy).
    """
    if config.labelled == "auto":
        try:
            return open_source(dataclasses.replace(config, labelled=True))
        except UserError as error:
            console.note(f"labels auto: none ({error})")
        return open_source(dataclasses.replace(config, labelled=False))
    name, module, spec = find_source(config.spec, config.labelled, config.kind)
    made = bool(config.labelled) and config.kind != "auto" and targets.load(config.kind).made_of_images
    with_labels = config.labelled and (not made or of_one_kind(module) == config.kind)
    found = module.load(dataclasses.replace(config, spec=spec, labelled=with_labels))
    if made and not with_labels:
        own = targets.load(config.kind)
        found = {split: source.labelled(own.of_images(len(source))) for split, source in found.items()}
    elif not config.labelled:
        found = {split: source.unlabelled() for split, source in found.items()}
    if config.exclude is not None:
        from vitrail.data.exclusion import exclude  # which reads sources, as this file describes them

        found = exclude(found, Path(config.exclude).expanduser())
    found = {split: source for split, source in found.items() if len(source)}
    if not found:
        other = data_file(config.path)
        raise UserError(f"{config.spec!r} holds no images; point at the folder or file that does{other}")
    found, how_split = divide(found, config)
    splits = Splits(**found)
    if config.labelled and splits.kind != config.kind != "auto" and targets.load(config.kind).spatial:
        raise no_such_labels(config, [splits.kind])
    _check_classes(splits, config)
    sizes = ", ".join(f"{len(source):,} {split}" for split, source in splits.items())
    console.note(f"data: {name} {config.spec!r}: {sizes}{how_split}; {splits.target_kind.describe(splits.classes)}")
    return splits


def case_twins(classes: tuple[str, ...]) -> list[tuple[str, ...]]:
    """Groups of class names that differ by case alone, or by how accents are encoded."""
    groups: dict[str, list[str]] = {}
    for name in classes:
        groups.setdefault(unicodedata.normalize("NFC", name).casefold(), []).append(name)
    return [tuple(group) for group in groups.values() if len(group) > 1]


def _check_classes(splits: Splits, config: SourceConfig) -> None:
    for name in splits.classes:
        try:
            name.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise UserError(f"{config.spec!r}: the class {name!r} is no text that can be written; rename it") from None
    splits.target_kind.check_classes(splits.classes, config.spec)
    for group in case_twins(splits.classes):
        how = "case" if len({unicodedata.normalize("NFC", name) for name in group}) > 1 else "the encoding of accents"
        console.warn(f"the classes {' and '.join(map(repr, group))} differ by {how} alone; are they one?")
