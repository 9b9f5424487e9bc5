"""What lies in a folder: its image files and sub-folders as columns, found by one walk that link loops cannot trap."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from vitrail import console
from vitrail.data.indexing.index import Strings, Table, cached
from vitrail.data.indexing.system_files import is_system
from vitrail.data.media.formats import HEIF_SUFFIXES, candidate_suffixes
from vitrail.errors import UserError


@dataclass(frozen=True)
class Listing:
    """The image files below a folder, sorted.

    Attributes:
        folders: relative paths of all sub-folders, ``b""`` for the folder itself.
        files: the files' own names.
        folder_of: int32 (N,): each file's folder.
        skipped: how many entries of each kind (``SKIPPED``) were skipped.
    """

    folders: Strings
    files: Strings
    folder_of: np.ndarray
    skipped: np.ndarray

    def __len__(self) -> int:
        return len(self.files)

    def __getitem__(self, index: int) -> bytes:
        return os.path.join(self.folders[int(self.folder_of[index])], self.files[index])

    def table(self) -> Table:
        """The listing as columns, for the cached index."""
        columns = {"folder_of": self.folder_of, "skipped": self.skipped}
        return columns | self.folders.columns("folders") | self.files.columns("files")

    @classmethod
    def from_table(cls, table: Table) -> Listing:
        folders, files = Strings.from_table(table, "folders"), Strings.from_table(table, "files")
        return cls(folders, files, table["folder_of"], table["skipped"])

    def note_skipped(self, where: str) -> None:
        """Print what was skipped, if anything."""
        skipped = [f"{kind} ({count:,})" for kind, count in zip(SKIPPED, self.skipped.tolist(), strict=True) if count]
        if skipped:
            console.note(f"{where}: skipped {', '.join(skipped)}")


SKIPPED = (
    "files not named as images",
    "FIFOs, devices or sockets",
    "links to folders listed already",
    "HEIC images, which need an extra: pip install 'vitrail[heif]'",
    "system files and folders such as @eaDir, __MACOSX or Thumbs.db",
)
_OTHER, _SPECIAL, _ALIAS, _UNREAD, _SYSTEM = range(len(SKIPPED))


def scan(root: str | os.PathLike[str], *, follow_symlinks: bool = False) -> Listing:
    """List the image files below ``root``, from the cached index where nothing has changed.

    Hidden entries are ignored; what systems leave (``@eaDir``), FIFOs, devices and formats that are not read are
    skipped, and a link to a folder inside ``root`` is not walked twice, so link loops end.

    Raises:
        UserError: a folder cannot be read, or a link leads out of ``root`` and ``follow_symlinks`` is off.
    """
    base = os.path.realpath(os.fsencode(root))
    key = f"folder {len(SKIPPED)} {len(candidate_suffixes())} {follow_symlinks} {base!r}"
    table = cached(key, lambda: _Walk(base, follow_symlinks).run())
    return Listing.from_table(table)


def skipped_by_suffix(suffixes: Iterable[bytes], num_system: int = 0) -> np.ndarray:
    """How many files of each kind (``SKIPPED``) these suffixes, with their dots, make that are not listed."""
    counts = np.zeros(len(SKIPPED), np.int64)
    counts[_SYSTEM] = num_system
    for suffix in suffixes:
        counts[_UNREAD if suffix in HEIF_SUFFIXES else _OTHER] += 1
    return counts


class _Walk:
    def __init__(self, root: bytes, follow_symlinks: bool) -> None:
        self.root, self.follow_symlinks = root, follow_symlinks
        self.skipped = np.zeros(len(SKIPPED), np.int64)
        self.found: dict[bytes, list[bytes]] = {}  # relative folder → sorted file names
        self.suffixes = candidate_suffixes()
        self.links: list[bytes] = []  # folders reached through a link, walked after all real ones
        self.seen: set[tuple[int, int]] = set()

    def run(self) -> tuple[Table, list[bytes]]:
        with console.Progress(f"indexing {os.fsdecode(self.root)}", None) as progress:
            self._walk(b"", progress)
            while self.links:
                self._walk(self.links.pop(), progress)
        folders = sorted(self.found)
        names = [name for folder in folders for name in self.found[folder]]
        folder_of = np.repeat(np.arange(len(folders), dtype=np.int32), [len(self.found[f]) for f in folders])
        table = Listing(Strings.of(folders), Strings.of(names), folder_of, self.skipped).table()
        return table, [os.path.join(self.root, folder) for folder in folders]

    def _walk(self, start: bytes, progress: console.Progress) -> None:
        pending = [start]
        while pending:
            folder = pending.pop()
            path = os.path.join(self.root, folder) if folder else self.root
            try:
                status = os.stat(path)
                if (status.st_dev, status.st_ino) in self.seen:
                    self.skipped[_ALIAS] += 1
                    continue
                self.seen.add((status.st_dev, status.st_ino))
                with os.scandir(path) as entries:
                    files, inner = self._sort_out(folder, entries)
            except OSError as error:
                shown, reason = os.fsdecode(path), (error.strerror or str(error)).lower()
                raise UserError(f"{shown}: the folder cannot be read: {reason}; check its permissions") from None
            self.found[folder] = sorted(files)
            pending.extend(inner)
            progress.advance(len(files))

    def _sort_out(self, folder: bytes, entries: Iterator[os.DirEntry[bytes]]) -> tuple[list[bytes], list[bytes]]:
        files, folders = [], []
        for entry in entries:
            name = entry.name
            if is_system(name):
                self.skipped[_SYSTEM] += 1
                continue
            if name.startswith(b"."):
                continue
            if entry.is_symlink() and not self._may_follow(entry.path):
                raise UserError(
                    f"{os.fsdecode(entry.path)} is a link out of {os.fsdecode(self.root)}; "
                    "remove it, or follow such links with follow_symlinks=true"
                )
            if entry.is_dir(follow_symlinks=False):
                folders.append(os.path.join(folder, name))
            elif entry.is_dir():
                self.links.append(os.path.join(folder, name))
            elif not (entry.is_file() or entry.is_symlink()):  # a dangling link is kept, to be named as bad
                self.skipped[_SPECIAL] += 1
            elif (suffix := os.path.splitext(name)[1].lower()) in self.suffixes:
                files.append(name)
            else:
                self.skipped += skipped_by_suffix([suffix])
        return files, folders

    def _may_follow(self, path: bytes) -> bool:
        if self.follow_symlinks:
            return True
        return os.path.commonpath([self.root, os.path.realpath(path)]) == self.root
