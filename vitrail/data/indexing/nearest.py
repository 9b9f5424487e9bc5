"""What lies in a folder that is not laid out as expected, and how it could be read: for errors."""

from __future__ import annotations

import os
from pathlib import Path

from vitrail.data.indexing.system_files import is_system
from vitrail.data.storage.tables import peek

_TABLES = (".csv", ".tsv")
_OTHERS = (".xlsx", ".xls", ".ods", ".parquet", ".mat", ".json", ".jsonl", ".txt", ".pkl", ".h5")
_DATA = (".npz", ".tar", ".zip", ".csv", ".tsv", ".json", ".yaml")
_WORDS = ("label", "annot", "class", "meta", "target", "truth", "train")


def data_file(folder: Path) -> str:
    """``", such as photos/data.npz"`` where a file of a folder may be the data, else ``""``."""
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return ""
    return next((f", such as {folder / name}" for name in names if name.lower().endswith(_DATA)), "")


def nearest(spec: str) -> str:
    """``"; labels.csv lies there …"`` where a file of a folder seems to hold its labels, else ``""``."""
    folder = Path(spec.partition(":")[2] if spec.startswith("folder:") else spec).expanduser()
    try:
        names = sorted(name for name in os.listdir(folder) if not is_system(os.fsencode(name)))
    except OSError:
        return ""
    if arrays := next((name for name in names if name.lower().endswith(".npy")), None):
        return (
            f"; {arrays} lies there: save arrays of all images with their labels as one file, as in "
            "np.savez('data.npz', x=images, y=labels)"
        )
    for name in names:
        if name.lower().endswith(_TABLES) and (columns := peek(folder / name, None)[0]):
            shown = ", ".join(columns[:6])
            return (
                f"; {name} lies there with the columns {shown}: to read labels from it, give csv:{folder / name} and "
                "name path_column= and label_columns="
            )
    for name in names:
        if name.lower().endswith(_OTHERS) and any(word in name.lower() for word in _WORDS):
            return f"; if {name} holds the labels, save them as labels.csv with the columns path and label"
    return ""
