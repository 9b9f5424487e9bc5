"""Tables of the Hugging Face hub: by name, as saved folders, or as folders of ``.parquet`` files, by the library."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from vitrail import console
from vitrail.data.indexing.splits import SPLITS, is_split_word, split_called
from vitrail.data.indexing.system_files import is_system
from vitrail.data.source import SourceConfig
from vitrail.data.storage.mask_folders import holds_images
from vitrail.errors import UserError

PARQUET = ".parquet"
_PLACES = ("*", "data/*", "*/*", "*/*/*")
"""Where the hub's repositories hold files, the plainest first; the last two have a configuration or a split above."""


def is_saved(path: Path) -> bool:
    """Whether a folder is one of ``save_to_disk``."""
    return (path / "dataset_dict.json").is_file() or (path / "dataset_info.json").is_file()


def parquet_files(path: Path) -> list[Path]:
    """A ``.parquet`` file itself, or those of a folder that lie at one depth; none beside pictures, which they describe
    at most."""
    if path.is_file():
        return [path] if path.suffix.lower() == PARQUET else []
    for place in _PLACES if path.is_dir() else ():
        if found := sorted(each for each in path.glob(place) if _counts(each)):
            return [] if holds_images(path) else found
    return []


def _counts(path: Path) -> bool:
    return path.suffix.lower() == PARQUET and not is_system(os.fsencode(path.name)) and path.is_file()


def open_tables(config: SourceConfig) -> dict[str, Any]:
    """The ``datasets.Dataset`` of each split.

    Raises:
        UserError: without the extra, without the data, and where no split has a known name.
    """
    os.environ.setdefault("HF_HUB_DISABLE_TELEMETRY", "1")
    try:
        import datasets
    except ImportError:
        raise UserError("Hugging Face data needs an extra; run: pip install 'vitrail[datasets]'") from None
    if not config.location:
        raise UserError("the source 'huggingface' needs a name; write huggingface:USER/NAME")
    files = {} if is_saved(config.path) else dict(_by_split(config))
    try:
        if files:
            opened = _read(files, config)
        elif config.path.is_dir():
            opened = datasets.load_from_disk(str(config.path))
        else:
            name, _, part = config.location.partition(":")
            download = datasets.DownloadConfig(local_files_only=not config.download)
            opened = datasets.load_dataset(name, part or None, cache_dir=config.root, download_config=download)
    except Exception as error:  # the hub's own errors, and damaged files, which are read with no check of their kinds
        again = "save it again" if files else "save it again with save_to_disk"
        local_hint = again if config.path.exists() else "fetch it with download=true"
        hint = "check the name" if config.download else local_hint
        cause = (str(error) or type(error).__name__).splitlines()[0]
        raise UserError(f"{config.spec!r} cannot be opened: {cause}; {hint}") from None
    return _chosen(opened if isinstance(opened, dict) else {"train": opened}, config)


def _by_split(config: SourceConfig) -> Iterator[tuple[str, list[str]]]:
    """The files of each split, by the words of their names, or of the folder that they lie in.

    Raises:
        UserError: two folders, such as those of two configurations, hold one split.
    """
    found: dict[str, list[Path]] = {}
    for file in parquet_files(config.path):
        inner = file.relative_to(config.path).parts[-2::-1] if config.path.is_dir() else ()
        split = split_called(file.stem) or next(filter(None, map(is_split_word, inner)), None) or "train"
        found.setdefault(split, []).append(file)
    for split, files in found.items():
        folders = sorted({str(file.parent) for file in files})
        if len(folders) > 1:
            raise UserError(f"{folders[0]} and {folders[1]} both hold tables of {split}; give one of the folders")
        yield split, list(map(str, files))


def _read(files: dict[str, list[str]], config: SourceConfig) -> Any:
    """Tables in the library's cache, from which rows are read at random; no bars and logs of its own."""
    import datasets
    from datasets.utils import logging

    shown, level = datasets.is_progress_bar_enabled(), logging.get_verbosity()
    datasets.disable_progress_bars()
    logging.set_verbosity(logging.CRITICAL)
    try:
        return datasets.load_dataset("parquet", data_files=files, cache_dir=config.root)
    finally:
        logging.set_verbosity(level)
        if shown:
            datasets.enable_progress_bars()


def _chosen(parts: dict[str, Any], config: SourceConfig) -> dict[str, Any]:
    """Those that are named for a split, by split."""
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
