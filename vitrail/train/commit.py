"""The commit of the working directory, read from git's own files: nothing that a repository names is run."""

from __future__ import annotations

import re
from pathlib import Path

from vitrail import files

_COMMIT = re.compile(r"[0-9a-f]{40}([0-9a-f]{24})?")
_REF = re.compile(r"refs/[\w./+@-]{1,200}")
_MOST = 10_000_000  # bytes of a file of packed refs


def checked_out(folder: Path) -> str | None:
    """The commit that is checked out in ``folder`` or above it; None where there is no repository, or a strange one.

    Local changes are not looked for: that would take git, and git runs what a repository's config names
    (``core.fsmonitor``, filters).
    """
    try:
        folder = folder.resolve()
        found = next((each / ".git" for each in (folder, *folder.parents) if (each / ".git").exists()), None)
        if found is None:
            return None
        if not found.is_dir():  # of a worktree or a submodule
            found = found.parent / _text(found).removeprefix("gitdir:").strip()
        head = _text(found / "HEAD").strip()
        name = head.removeprefix("ref:").strip()
        return head if _COMMIT.fullmatch(head) else _resolve(found, name)
    except (OSError, ValueError):
        return None


def _resolve(folder: Path, name: str) -> str | None:
    """The commit of a branch."""
    if not _REF.fullmatch(name) or ".." in name:
        return None
    common = folder / "commondir"
    places = [folder, folder / _text(common).strip()] if common.exists() else [folder]
    for place in places:
        if (place / name).exists():
            commit = _text(place / name).strip()
            return commit if _COMMIT.fullmatch(commit) else None
    for place in places:
        if (place / "packed-refs").exists():
            for line in _text(place / "packed-refs").splitlines():
                commit, _, ref = line.partition(" ")
                if ref == name and _COMMIT.fullmatch(commit):
                    return commit
    return None


def _text(path: Path) -> str:
    """Raises OSError for what is no regular file, and ValueError for what is no text."""
    with open(path, encoding="utf-8", opener=files.regular) as file:
        return file.read(_MOST)
