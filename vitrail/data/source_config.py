"""Which samples to read: the settings of a data source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from vitrail.config import config
from vitrail.data import targets
from vitrail.data.indexing.names import Classes
from vitrail.data.locate import parse_spec
from vitrail.errors import UserError


def _known_kind(kind: str) -> str:
    if kind == "none":
        raise ValueError("images are read without labels by labelled=false")
    return kind if kind == "auto" else targets.check_name(kind)


def _known_encoding(name: str | None) -> str | None:
    try:
        "".encode(name or "utf-8")
    except LookupError:
        raise ValueError(f"no encoding is called {name!r}; write utf-8, utf-16, cp1252, shift_jis or gb18030") from None
    return name


Wanted = Annotated[str, AfterValidator(_known_kind)]
"""``auto``, or the name of a target kind (:mod:`vitrail.data.targets`), a third party's too."""


@config
class SourceConfig:
    """Which samples to read.

    Attributes:
        spec: a source's name (``digits``, ``cifar10``), a path (folder, ``.csv``, ``.npz``, ``.tar``, ``.json``), or
            both, as in ``csv:labels.txt``.
        labelled: ``False`` reads the images alone, wherever they lie; ``auto`` takes labels where there are valid ones.
        kind: what a label is; ``auto`` is derived from the labels.
        classes: the class names in order, e.g. those of a trained model; default: as found.
        synonyms: with ``classes``, the other names of each, such as WordNet numbers.
        val_fraction: the share of a labelled training split that becomes the validation split where there is none.
        group_column: a table's column of groups, such as patients, each of which is either trained on or held out.
        time_column: a table's column of dates or numbers, by which the latest samples are held out.
        folds: hold out one of so many folds of the training split in place of ``val_fraction``.
        fold: which one, from 1 on.
        train_fraction: train on this share of the (remaining) training split only, with every class represented.
        split_seed: decides which samples those are.
        allow_empty_class: accept a class without images.
        follow_symlinks: follow links that lead out of the folder.
        class_level: in nested folders, is a class a ``top`` folder or each ``leaf``? ``auto``: leaf when unambiguous.
        path_column, label_columns: the columns of a table (CSV, ``datasets``); default: found by their names.
        encoding: of the text of a table, such as cp1252 or shift_jis; default: UTF-8, or as a byte-order mark says.
        label_separator: the separator of several labels in one cell; default: ``|`` or ``;`` where present.
        root: the folder that relative paths of a CSV start from, or that holds a named data set.
        exclude: a ``.csv`` with a column ``name``, or a list, of images to leave out.
        download: fetch a named data set that is not there yet.
    """

    spec: str
    labelled: bool | Literal["auto"] = True
    kind: Wanted = "auto"
    classes: tuple[str, ...] = ()
    synonyms: tuple[tuple[str, ...], ...] = ()
    val_fraction: float = Field(0.1, ge=0, lt=1)
    group_column: str | None = None
    time_column: str | None = None
    folds: int | None = Field(None, ge=2)
    fold: int = Field(1, ge=1)
    train_fraction: float = Field(1.0, gt=0, le=1)
    split_seed: int = Field(0, ge=0)
    allow_empty_class: bool = False
    follow_symlinks: bool = False
    class_level: Literal["auto", "top", "leaf"] = "auto"
    path_column: str | None = None
    label_columns: tuple[str, ...] = ()
    encoding: Annotated[str | None, AfterValidator(_known_encoding)] = None
    label_separator: str | None = None
    root: str | None = None
    exclude: str | None = None
    download: bool = False

    @property
    def known_classes(self) -> Classes:
        """The classes given, with their synonyms."""
        return Classes(self.classes, self.synonyms)

    @property
    def location(self) -> str:
        """The specification without its ``name:`` prefix; empty for a bare name."""
        return parse_spec(self.spec)[1]

    @property
    def module(self) -> str:
        """The source's name where the specification begins with one, dotted for a third party's; else empty."""
        return parse_spec(self.spec)[0] or ""

    @property
    def modules(self) -> tuple[str, str]:
        """The source and the target kind as registry names; dotted ones are third parties' modules."""
        return self.module, self.kind

    @property
    def path(self) -> Path:
        """The location as a path.

        Raises:
            UserError: the specification has none.
        """
        if not self.location:
            raise UserError(f"the source {self.spec!r} needs a path; write {self.spec}:PATH")
        return Path(self.location).expanduser()

    def wants(self, kind: str) -> bool:
        """May targets be read as this kind?"""
        return self.kind in ("auto", kind)

    def choose(self, offered: Iterable[str]) -> str:
        """The kind to read of those that a source offers, at least one; with ``auto`` the first.

        Raises:
            UserError: the wanted one is not among them.
        """
        offered = list(offered)
        chosen = next(filter(self.wants, offered), None)
        if chosen is None:
            raise no_such_labels(self, offered)
        return chosen


def no_such_labels(config: SourceConfig, offered: Sequence[str]) -> UserError:
    """That the data has none of the kind that is wanted, but others."""
    has, kinds = " and ".join(offered), " or ".join(f"kind={kind}" for kind in offered)
    return UserError(f"{config.spec!r} has no {config.kind} but {has} labels; give other data, or read it with {kinds}")
