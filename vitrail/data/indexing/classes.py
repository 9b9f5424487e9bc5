"""The class rules of an image folder: which of its folders is which class, and what is an error."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from vitrail.data.indexing.names import ClassFinder
from vitrail.data.indexing.nearest import nearest
from vitrail.data.source import SourceConfig
from vitrail.errors import UserError, did_you_mean

Level = Literal["top", "leaf"]


def choose_level(folders: Sequence[str], counts: np.ndarray, config: SourceConfig) -> Level:
    """Whether a class is a top folder or each folder that holds images.

    Args:
        folders: paths relative to the split's folder, ``""`` for itself.
        counts: int (F,): images directly in each.

    Raises:
        UserError: images lie in the split's folder itself, or in a folder and below it.
    """
    holding = [folder for folder, count in zip(folders, counts.tolist(), strict=True) if count]
    if "" in holding:
        raise UserError(
            f"{config.spec!r} holds images outside any class folder; move each into the folder of its class, "
            "list them in a .csv of path and label, or read it without labels with labelled=false"
            + nearest(config.spec)
        )
    if config.class_level != "auto":
        return config.class_level
    if not any("/" in folder for folder in holding):
        return "top"
    outer = {folder.rsplit("/", depth)[0] for folder in holding for depth in range(1, folder.count("/") + 1)}
    if mixed := sorted(outer.intersection(holding)):
        raise UserError(
            f"{config.spec!r}: {mixed[0]!r} holds images and folders of images; choose class_level=top "
            f"(one class {mixed[0].split('/')[0]!r}) or class_level=leaf (a class for each folder)"
        )
    tops = {folder.split("/")[0] for folder in holding}
    if len(tops) == len(holding):  # ant/images, bee/images: the same classes, by whatever level
        return "top"
    nested = next(folder for folder in sorted(holding) if "/" in folder)
    raise UserError(
        f"{config.spec!r} has two levels of folders that may be classes, as in {nested!r}; choose class_level=top "
        f"({len(tops)} classes such as {nested.split('/')[0]!r}) or class_level=leaf ({len(holding)} classes such as "
        f"{nested!r}), or name the folders of splits train, val and test"
    )


def name_classes(folders: Sequence[str], counts: np.ndarray, level: Level) -> tuple[list[str], list[str]]:
    """(each folder's class, "" where it is none; the names of classes without an image)."""
    if level == "top":
        names = [folder.split("/")[0] for folder in folders]
    else:
        parents = {folder.rpartition("/")[0] for folder in folders}
        names = [
            folder if count or folder not in parents else ""
            for folder, count in zip(folders, counts.tolist(), strict=True)
        ]
    filled = {name for name, count in zip(names, counts.tolist(), strict=True) if count}
    return names, sorted({name for name in names if name} - filled)


def class_list(train: set[str], others: dict[str, set[str]], empty: list[str], config: SourceConfig) -> tuple[str, ...]:
    """The data set's classes in order.

    Args:
        train: the classes seen in training (or in the only split).
        others: the classes of the other splits, by split.
        empty: training classes without an image.

    Raises:
        UserError: a class that is not in the training data (or ``config.classes``), or an empty one.
    """
    if empty and not config.allow_empty_class and not config.classes:
        raise UserError(
            f"{config.spec!r}: the class folder {empty[0]!r} holds no images"
            + (f" (nor do {len(empty) - 1} others)" if len(empty) > 1 else "")
            + "; fill or remove it, or pass --allow-empty-class (allow_empty_class=true)"
        )
    known: tuple[str, ...] = config.classes or tuple(sorted(train))
    named = {"the classes given": train} if config.classes else {}
    for split, names in {**named, **others}.items():
        if unknown := sorted(names - set(known)):
            origin = f"{split!r} folder" if split in others else "data"
            if len(several := ClassFinder(known).matching(unknown[0])) > 1:
                raise UserError(
                    f"{config.spec!r}: the class {unknown[0]!r} of the {origin} is the name of several: "
                    f"{', '.join(several)}; write one of them"
                )
            raise UserError(
                f"{config.spec!r}: the class {unknown[0]!r} of the {origin} is not among the "
                f"{'given' if config.classes else 'training'} classes; {did_you_mean(unknown[0], known)}"
            )
    return known
