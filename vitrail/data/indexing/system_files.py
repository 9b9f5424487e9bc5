"""What operating systems, storage boxes and editors leave among images: never data, whatever it is named like."""

from __future__ import annotations

_NAMES = frozenset(
    name.encode()
    for name in (
        *("@eadir", "#recycle", "@recycle", "@recently-snapshot", "#snapshot", "@tmp", "@sharebin"),
        *("__macosx", ".ds_store", ".appledouble", ".spotlight-v100", ".fseventsd", ".trashes", ".temporaryitems"),
        *("thumbs.db", "ehthumbs.db", "desktop.ini", "$recycle.bin", "recycler", "system volume information"),
        *("lost+found", ".directory", ".trash", ".thumbnails", ".picasa.ini"),
        *(".ipynb_checkpoints", "__pycache__"),
    )
)
_STARTS = (b"._", b".trash-", b".fuse_hidden", b".nfs", b"~$")


def is_system(name: bytes) -> bool:
    """Whether a file or folder of this name is a system's own, such as ``@eaDir``, ``__MACOSX`` or ``._a.jpg``."""
    lowered = name.lower()
    return lowered in _NAMES or lowered.startswith(_STARTS)


def within_system(path: bytes) -> bool:
    """Whether any part of a path, divided by slashes, is a system's own."""
    return any(map(is_system, path.split(b"/")))
