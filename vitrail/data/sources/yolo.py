"""YOLO's text files: ``data.yaml``, or the folder that holds it.

The file names the classes (``names``, a list or numbers with names) and for each split a folder of images or a list of
them (``train``, ``val``, ``test``; ``path`` goes before). The labels of ``images/a.jpg`` are in ``labels/a.txt``: a
line an object, its class and then x, y, width and height of the box, or the x and y of three or more corners of its
outline, all as shares of the image's sides. An image without such a file holds no objects. Boxes of outlines are the
tightest.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from vitrail import console, plain_yaml
from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.indexing.index import Strings, Table, cached
from vitrail.data.indexing.listing import scan
from vitrail.data.indexing.splits import SPLIT_NAMES
from vitrail.data.media.decode import BadImage
from vitrail.data.media.limits import ANNOTATION_BYTES
from vitrail.data.media.read import read_regular, read_size
from vitrail.data.source import Source, SourceConfig
from vitrail.data.storage.objects import Columns, number_of, sources, unknown_class
from vitrail.data.storage.written_paths import portable
from vitrail.errors import UserError

FILES = ("data.yaml", "data.yml", "dataset.yaml")
_DIGITS = 6  # of a corner in pixels: dividing and multiplying by a side must not move it over a pixel's centre


def matches(spec: str) -> bool:
    path = Path(spec).expanduser()
    return path.suffix in (".yaml", ".yml") if path.is_file() else any((path / name).is_file() for name in FILES)


def load(config: SourceConfig) -> dict[str, Source]:
    """Raises UserError for incomplete settings, and with all flaws for lines that cannot be read."""
    file = config.path
    if file.is_dir():
        file = next((file / name for name in FILES if (file / name).is_file()), file / FILES[0])
    settings = _settings(file)
    own = _names(settings, file)
    classes = config.classes or own
    known = number_of(classes)
    label_of = [known.get(name, name) for name in own]
    tables: dict[str, Columns] = {}
    flaws: list[Flaw] = []
    for split, images in _images(settings, file, config).items():
        tables[split] = columns = Columns()
        sizes = _sizes(images)
        for path, size in zip(images, sizes, strict=True):
            columns.image(path, size)
            _add(columns, _labels_of(path), size, label_of, classes)
        flaws += columns.flaws
    if flaws:
        raise BadAnnotations(flaws)
    return sources(tables, dict.fromkeys(tables, Path("/")), range(len(classes)), classes, config)


def _settings(file: Path) -> dict[str, Any]:
    try:
        settings = plain_yaml.parse(read_regular(file))
    except BadImage as error:
        raise UserError(f"{file} {error}; check the path") from None
    except plain_yaml.YamlError as error:
        raise UserError(f"{file} is no YAML that is read: {error}; correct it") from None
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings; write names: and train: as YOLO does")
    return settings


def _names(settings: dict[str, Any], file: Path) -> tuple[str, ...]:
    names = settings.get("names")
    if isinstance(names, dict) and set(names) == set(range(len(names))):
        names = [names[number] for number in range(len(names))]
    if (
        not isinstance(names, list)
        or not names
        or any(isinstance(name, list | dict) for name in names)
        or len(set(map(str, names))) < len(names)
    ):
        raise UserError(f"{file} has no list of distinct class names; write names: [cat, dog]")
    return tuple(map(str, names))


def _images(settings: dict[str, Any], file: Path, config: SourceConfig) -> dict[str, list[bytes]]:
    """The absolute paths of each split's images."""
    folder = os.fsencode(file.parent)
    base = file.parent / os.fsdecode(portable(folder, os.fsencode(str(settings.get("path") or ""))))
    base = base if os.path.isdir(base) else file.parent
    found: dict[str, list[bytes]] = {}
    for split, names in SPLIT_NAMES.items():
        written = next((settings[name] for name in names if settings.get(name)), None)
        if written is None:
            continue
        places = [_place(base, file, str(each)) for each in (written if isinstance(written, list) else [written])]
        found[split] = [path for place in places for path in _listed(place, config)]
    if not found:
        raise UserError(f"{file} names no images; write train: images/train")
    return found


def _place(base: Path, file: Path, written: str) -> Path:
    """Exports are often moved: ``../train/images`` is looked for next to the file too."""
    written = os.fsdecode(portable(os.fsencode(base), os.fsencode(written)))
    candidates = [base / written, file.parent / written.removeprefix("../")]
    place = next((each for each in candidates if os.path.exists(each)), None)
    if place is None:
        raise UserError(f"{file} names {written!r}, and there is no {candidates[0]}; correct it")
    return place


def _listed(place: Path, config: SourceConfig) -> Iterator[bytes]:
    if place.is_dir():
        listing = scan(place, follow_symlinks=config.follow_symlinks)
        listing.note_skipped(str(place))
        root = os.path.realpath(os.fsencode(place))
        return (os.path.join(root, listing[i]) for i in range(len(listing)))
    folder = os.fsencode(place.parent)
    try:
        lines = [portable(folder, line.strip()) for line in read_regular(place, most=ANNOTATION_BYTES).split(b"\n")]
    except BadImage as error:
        raise UserError(f"{place} {error}; give a list of images") from None
    return (os.path.abspath(os.path.join(folder, line)) for line in lines if line)


def _labels_of(image: bytes) -> Path:
    """``…/images/a.jpg`` → ``…/labels/a.txt``; beside the image where no folder is called so."""
    folder, name = os.path.split(image)
    head, found, tail = (folder + b"/").rpartition(b"/images/")
    folder = head + b"/labels/" + tail if found else folder
    return Path(os.fsdecode(os.path.join(folder, os.path.splitext(name)[0] + b".txt")))


def _sizes(images: list[bytes]) -> list[tuple[int, int]]:
    """(height, width) of each; (1, 1) of those that cannot be read, which loading or `data check` names."""

    def build() -> tuple[Table, list[bytes]]:
        sizes = np.ones((len(images), 2), np.int32)
        for row, path in enumerate(console.track(images, "reading sizes")):
            try:
                sizes[row] = read_size(path)
            except BadImage:
                continue
        return {"sizes": sizes}, images

    digest = Strings.of(images).blob.tobytes()
    table = cached(f"sizes {digest!r}", build)["sizes"]
    return [(int(height), int(width)) for height, width in table]


def _add(
    columns: Columns, file: Path, size: tuple[int, int], label_of: list[int | str], classes: tuple[str, ...]
) -> None:
    if not os.path.exists(file):
        return
    shown = console.printable(str(file))
    try:
        lines = read_regular(file).decode("utf-8").splitlines()
    except (BadImage, UnicodeDecodeError) as error:
        columns.flaws.append(Flaw(shown, 0, str(error)))
        return
    for place, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            label, values = _parsed(line, label_of, classes)
        except ValueError as error:
            columns.flaws.append(Flaw(shown, place, f"line {place + 1} {error}"))
            continue
        sides = np.array(size[::-1], np.float64)
        if len(values) == 4:
            centre, half = values[:2] * sides, values[2:] * sides / 2
            columns.add([*(centre - half), *(centre + half)], label)
        else:
            corners = np.round(values.reshape(-1, 2) * sides, _DIGITS)
            columns.add([*corners.min(0), *corners.max(0)], label, shape=[corners.ravel().tolist()])


def _parsed(line: str, label_of: list[int | str], classes: tuple[str, ...]) -> tuple[int, np.ndarray]:
    """(label, the numbers after it). Raises ValueError with the cause."""
    try:
        numbers = np.array(line.split(), np.float64)
    except ValueError:
        raise ValueError(f"is not all numbers: {line[:60]!r}") from None
    values = numbers[1:]
    if len(values) != 4 and (len(values) < 6 or len(values) % 2):
        raise ValueError(
            f"has {len(numbers)} numbers; a class and 4 for a box, or 6 and more for an outline, are wanted"
        )
    if not np.isfinite(values).all() or not float(numbers[0]).is_integer():
        raise ValueError(f"holds what is no number: {line[:60]!r}")
    if not 0 <= numbers[0] < len(label_of):
        raise ValueError(f"has the unknown class {numbers[0]:g} of {len(label_of)}")
    label = label_of[int(numbers[0])]
    if isinstance(label, str):
        raise ValueError(f"has the {unknown_class(label, classes)}")
    return label, values
