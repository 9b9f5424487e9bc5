"""The JSON files that other libraries write beside their weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from vitrail.checkpoints.containers import safetensors
from vitrail.data.indexing.names import classes_beside
from vitrail.errors import UserError

CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"  # the second holds a tokenizer's too
CLASSES = "classes.json"
FILES = (CONFIG, PREPROCESSOR, PROCESSOR, OPEN_CLIP_CONFIG, CLASSES)
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors", "pytorch_model.bin")
"""Names of weights in a folder, the preferred one first."""
MAX_JSON = 10_000_000  # bytes


@dataclass(frozen=True)
class Beside:
    """What lies next to the tensors: JSON files, known to be mappings and not checked further.

    Attributes:
        config: ``config.json``, empty where there is none.
        preprocessor: ``preprocessor_config.json``.
        classes: from ``classes.json``.
        metadata: the texts inside the weights file.
        name: of the file or its folder, where nothing else distinguishes two variants.
    """

    config: dict[str, Any] = field(default_factory=dict)
    preprocessor: dict[str, Any] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    metadata: dict[str, str] = field(default_factory=dict)
    name: str = ""


def read_beside(path: Path, metadata: dict[str, str]) -> Beside:
    """What lies beside a weights file.

    Args:
        metadata: the texts inside the file.

    Raises:
        UserError: a file there is too large, or not JSON of its kind.
    """
    folder = path.parent
    both = [_json(folder / name) for name in (CONFIG, OPEN_CLIP_CONFIG)]  # a folder for two libraries has both
    if path.name.startswith("open_clip"):
        both.reverse()
    return Beside(
        config=both[0] or both[1],
        preprocessor=_json(folder / PREPROCESSOR) or _json(folder / PROCESSOR).get("image_processor") or {},
        classes=classes_beside(folder) if _is_small(folder / CLASSES) else (),
        metadata=metadata,
        name=_model_name(path),
    )


def _model_name(path: Path) -> str:
    if path.name not in WEIGHTS:
        return path.name
    folder = path.parent
    if folder.parent.name == "snapshots":  # the hub's cache: models--owner--name/snapshots/commit
        return folder.parents[1].name.rpartition("--")[2]
    return folder.name


def _json(path: Path) -> dict[str, Any]:
    def refuse(reason: str) -> NoReturn:
        raise UserError(f"cannot read {path}: {reason}; restore or remove it")

    if not _is_small(path):
        return {}
    try:
        found = safetensors.strict_json(path.read_bytes(), refuse)
    except OSError as error:
        refuse(str(error.strerror))
    if not isinstance(found, dict):
        refuse("it holds no JSON object")
    assert isinstance(found, dict)
    return found


def _is_small(path: Path) -> bool:
    """Whether there is such a file.

    Raises:
        UserError: it has more bytes than any config.
    """
    if path.is_file() and (size := path.stat().st_size) > MAX_JSON:
        raise UserError(f"{path} has {size:,} bytes, more than {MAX_JSON:,}; it is no config")
    return path.is_file()
