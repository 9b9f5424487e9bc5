"""Where YOLO's images, labels and class names are: ``data.yaml``, Darknet's ``obj.data``, or folders and
``classes.txt``."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from vitrail import console, plain_yaml
from vitrail.data.indexing.listing import scan
from vitrail.data.indexing.splits import SPLIT_NAMES
from vitrail.data.media.decode import BadImage
from vitrail.data.media.text import read_lines, read_text
from vitrail.data.source import SourceConfig, split_called
from vitrail.data.storage.files import cased
from vitrail.data.storage.locating import locate
from vitrail.errors import UserError

YAML = ("data.yaml", "data.yml", "dataset.yaml", "dataset.yml")
DARKNET = ("obj.data",)
_TEXTS = "*.[tT][xX][tT]"
NAMES = ("classes.txt", "obj.names", "labels.txt", "predefined_classes.txt")
IMAGES, LABELS = "images", "labels"
EXAMPLE = "data.yaml with names: and train:, obj.data, or images/, labels/ and classes.txt"


@dataclass(frozen=True)
class YoloLayout:
    """The class names, and the absolute paths of each split's images."""

    file: Path
    names: tuple[str, ...]
    images: dict[str, list[bytes]] = field(default_factory=dict)


def is_yolo(path: Path) -> bool:
    """Whether a file or a folder is such a layout."""
    if path.is_file():
        return path.suffix.lower() in (".yaml", ".yml") or path.name in DARKNET
    if any((path / name).is_file() for name in (*YAML, *DARKNET)) or _own_yaml(path):
        return True
    return any((path / name).is_file() for name in NAMES) and has_labels(path)


def _own_yaml(path: Path) -> Path | None:
    """The one YAML file of a folder that names classes and images, whatever it is called."""
    files = [each for each in path.glob("*.y*ml") if each.suffix in (".yaml", ".yml")] if path.is_dir() else []
    if len(files) != 1:
        return None
    try:
        keys = {line.partition(":")[0].strip() for line in read_lines(files[0])}
    except BadImage:
        return None
    return files[0] if {"names", "train"} <= keys else None


def has_labels(path: Path) -> bool:
    """Whether some text files below look like labels."""
    return any(looks_like_labels(file) for file in _texts(path))


def open_layout(config: SourceConfig) -> YoloLayout:
    """Raises UserError for what is missing, of the training split or of all."""
    path = config.path
    if path.is_dir():
        own = _own_yaml(path)
        files = (
            *(path / name for name in (*YAML, *DARKNET)),
            *([own] if own else []),
            *(path / name for name in NAMES),
        )
        path = next((file for file in files if file.is_file()), path / YAML[0])
    if path.name in NAMES:
        return _from_folders(path, config)
    return _from_darknet(path, config) if path.suffix == ".data" else _from_yaml(path, config)


def _from_yaml(file: Path, config: SourceConfig) -> YoloLayout:
    settings = _settings(file)
    if settings.get("kpt_shape"):
        raise UserError(f"{file} is of key points (kpt_shape), which no task reads; export boxes or outlines")
    base = file.parent / str(settings.get("path") or "").replace("\\", "/")
    found = {split: settings.get(name) for split, names in SPLIT_NAMES.items() for name in names if settings.get(name)}
    images = _splits(found, [base if os.path.isdir(base) else file.parent, file.parent], file, config)
    if not images:
        raise UserError(f"{file} names no images; write train: images/train")
    names = _names(settings.get("names"), file)
    if isinstance(count := settings.get("nc"), int) and count != len(names):
        console.warn(f"{file} says nc: {count} and names {len(names)} classes; the names count")
    return YoloLayout(file, names, images)


def _from_darknet(file: Path, config: SourceConfig) -> YoloLayout:
    settings = {}
    try:
        for line in read_lines(file):
            key, _, value = line.partition("=")
            settings[key.strip().lower()] = value.strip()
    except BadImage as error:
        raise UserError(f"{file} {error}; check the path") from None
    names = _place([file.parent], settings.get("names") or DARKNET[0])
    if names is None or not names.is_file():
        raise UserError(f"{file} names no file of classes that is there; write names = obj.names")
    written = {split: settings[name] for split, all_ in SPLIT_NAMES.items() for name in all_ if settings.get(name)}
    images = _splits(written, [file.parent], file, config)
    if not images:  # CVAT leaves the lists out where an export has no images
        images = {"train": [*_listed(file.parent, [file.parent], config)]}
    return YoloLayout(file, _names(_lines(names), names), images)


def _from_folders(file: Path, config: SourceConfig) -> YoloLayout:
    root = file.parent
    place = root / IMAGES if (root / IMAGES).is_dir() else root
    inner = {split: each for each in sorted(place.iterdir()) if each.is_dir() and (split := split_called(each.name))}
    parts = {split: each / IMAGES if (each / IMAGES).is_dir() else each for split, each in inner.items()}
    images = {split: [*_listed(each, [root], config)] for split, each in (parts or {"train": place}).items()}
    return YoloLayout(file, _names(_lines(file), file), images)


def _settings(file: Path) -> dict[str, Any]:
    try:
        settings = plain_yaml.parse(read_text(file))
    except BadImage as error:
        raise UserError(f"{file} {error}; check the path") from None
    except plain_yaml.YamlError as error:
        raise UserError(f"{file} is no YAML: {error}; correct it") from None
    if not isinstance(settings, dict):
        raise UserError(f"{file} holds no settings; write names: and train: as YOLO does")
    return settings


def _lines(file: Path) -> list[str]:
    try:
        return read_lines(file)
    except BadImage as error:
        raise UserError(f"{file} {error}; repair it") from None


def _names(names: object, file: Path) -> tuple[str, ...]:
    if isinstance(names, dict):
        numbers = {int(key): name for key, name in names.items() if re.fullmatch("[0-9]{1,9}", str(key))}
        if len(numbers) == len(names) and sorted(numbers) == list(range(len(numbers))):
            names = [numbers[number] for number in range(len(numbers))]
    plain = isinstance(names, list) and not any(isinstance(name, list | dict) for name in names)
    if not isinstance(names, list) or not plain or not names or len(set(map(str, names))) < len(names):
        raise UserError(f"{file} has no list of distinct class names; write names: [cat, dog]")
    return tuple(map(str, names))


def _splits(written: dict[str, Any], bases: list[Path], file: Path, config: SourceConfig) -> dict[str, list[bytes]]:
    """The images of each split; one that is not trained on may be absent."""
    found: dict[str, list[bytes]] = {}
    taken: dict[Path, str] = {}
    for split, value in written.items():
        places = []
        for each in value if isinstance(value, list) else [value]:
            place = _place(bases, str(each))
            if place is None or (len(_parts(str(each))) > 1 and taken.get(place, str(each)) != str(each)):
                there = f"{file} names {str(each)!r}, and there is no {bases[0] / str(each)}"
                if split == "train":
                    raise UserError(f"{there}; correct it")
                console.warn(f"{there}: {split} is left out")
                continue
            taken[place] = str(each)
            places.append(place)
        if places:
            found[split] = [path for place in places for path in _listed(place, bases, config)]
    return found


def _place(bases: list[Path], written: str) -> Path | None:
    """Exports are moved and unpacked: what is written is looked for by its end too, two parts of it for a folder."""
    written = written.replace("\\", "/").strip()
    parts = _parts(written)
    for base in bases:
        if os.path.exists(base / written):
            return base / written
    for start in range(len(parts)):
        for base in bases:
            place = base.joinpath(*parts[start:])
            if os.path.isfile(place) or (os.path.isdir(place) and (len(parts) - start > 1 or len(parts) == 1)):
                return place
    return None


def _parts(written: str) -> list[str]:
    return [part for part in re.split(r"[\\/]+", written) if part not in ("", ".", "..")]


def _listed(place: Path, bases: list[Path], config: SourceConfig) -> Iterator[bytes]:
    """The absolute paths of the images in a folder, or in a list."""
    if place.is_dir():
        listing = scan(place, follow_symlinks=config.follow_symlinks)
        listing.note_skipped(str(place))
        root = os.path.realpath(os.fsencode(place))
        return (os.path.join(root, listing[i]) for i in range(len(listing)))
    names = [name.removeprefix("./") for name in _lines(place)]
    near = [place.parent, *bases]
    folder, paths = locate(names, list(dict.fromkeys(near)), bases[-1])
    return (os.path.abspath(os.path.join(os.fsencode(folder), path)) for path in paths)


def labels_of(image: bytes) -> Path:
    """``…/images/a.jpg`` → ``…/labels/a.txt``; beside the image where no folder is called so, or no file is there."""
    folder, name = os.path.split(image)
    head, found, tail = (folder + b"/").rpartition(b"/images/")
    stem = os.path.splitext(name)[0] + b".txt"
    beside = cased(Path(os.fsdecode(os.path.join(folder, stem))))
    if not found:
        return beside
    usual = cased(Path(os.fsdecode(os.path.join(head + b"/labels/" + tail, stem))))
    return beside if not usual.exists() and beside.exists() else usual


def _texts(path: Path) -> Iterator[Path]:
    """The first few text files of the folders where labels may lie."""
    if not path.is_dir():
        return
    splits = [each for each in sorted(path.iterdir()) if each.is_dir() and split_called(each.name)]
    for folder in (path / LABELS, path, *splits, *(each / LABELS for each in splits)):
        for pattern in (_TEXTS, f"*/{_TEXTS}") if folder.name == LABELS else (_TEXTS,):
            for count, file in enumerate(folder.glob(pattern)):
                if count > 20:
                    break
                if file.name not in NAMES:
                    yield file


def looks_like_labels(file: Path) -> bool:
    """Whether the first lines of a text are labels."""
    try:
        lines = read_lines(file)[:3]
    except BadImage:
        return False
    return bool(lines) and all(
        re.fullmatch(r"\d+(?:\.0*)?(?:\s+-?[\d.]+(?:[eE][+-]?\d+)?){4,}", line) for line in lines
    )
