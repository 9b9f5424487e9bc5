"""From what a user names (run folder, weights file, another library's folder, a model of the hub) to a weights file."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from pathlib import Path

from vitrail.checkpoints import hub
from vitrail.checkpoints.beside import WEIGHTS
from vitrail.checkpoints.known_weights import KNOWN, KnownWeights
from vitrail.errors import UserError, did_you_mean

PICKLED = (".pt", ".pth", ".bin", ".ckpt", ".pth.tar")
"""Files of torch.save, of which a folder may hold one in place of the weights that other libraries name."""
SUFFIXES = (*PICKLED, ".safetensors", ".npz")
PICKLED_SHARDS = "pytorch_model.bin.index.json"


def find_weights(path: str | Path, *, allow_pickle: bool = False) -> Path:
    """The weights file of a run folder, of another library's folder or of a model on the hub; a file is itself.

    Args:
        path: also ``hf://owner/name``, which is fetched if it is not in the hub's cache; or a short name of
            :mod:`vitrail.checkpoints.known_weights`, which never is.
        allow_pickle: fetch a pickle where the hub has nothing better.

    Raises:
        UserError: there is none.
    """
    if hub.is_address(path):
        return hub.fetch(path, allow_pickle=allow_pickle)
    if (known := KNOWN.get(str(path))) is not None and not Path(path).exists():
        return _known(str(path), known)
    path = Path(path)
    if not path.exists():
        beside = path.parent.iterdir() if path.parent.is_dir() else ()
        nearby = [str(each) for each in beside if each.is_dir() or each.suffix == path.suffix]
        near = difflib.get_close_matches(str(path).lower(), [*KNOWN], n=1, cutoff=0.8)
        if near:
            hint = did_you_mean(str(path), near)
        else:
            hint = did_you_mean(str(path), nearby) if nearby else "give a run folder or a .safetensors file"
        raise UserError(f"there is no run or weights file {str(path)!r}; {hint}")
    if not path.is_dir():
        return path
    for name in ("soup", "best", "last"):
        if (weights := path / "weights" / f"{name}.safetensors").is_file():
            return weights
    if (path / "config.yaml").is_file():
        raise UserError(f"{str(path)!r} holds no weights/best.safetensors; give the folder of a finished run")
    candidates = [path / name for name in (*WEIGHTS, PICKLED_SHARDS) if (path / name).is_file()]
    others = [] if candidates else sorted([*path.glob("*.safetensors"), *path.glob("*.npz")])
    if len(others) > 1:
        raise UserError(
            f"{str(path)!r} holds several weights files ({_some(others)}) and no index of parts; name the one to open"
        )
    candidates += others
    pickles = [each for each in path.iterdir() if each.name.lower().endswith(PICKLED) and each.is_file()]
    candidates += pickles if not candidates and len(pickles) == 1 else []
    if not candidates and pickles:
        raise UserError(f"{str(path)!r} holds several files of torch.save ({_some(pickles)}); name the one to open")
    if not candidates and (inside := _folders_with_weights(path)):
        raise UserError(
            f"{str(path)!r} holds no weights itself; its folders do ({_some(inside)}): name the one to open"
        )
    if not candidates:
        raise UserError(
            f"{path} holds no weights: neither weights/best.safetensors of a run nor {WEIGHTS[0]}; "
            "give a folder that does"
        )
    return candidates[0]


def _some(paths: Sequence[Path]) -> str:
    return ", ".join(each.name for each in sorted(paths)[:3]) + (", …" if len(paths) > 3 else "")


def _folders_with_weights(path: Path) -> list[Path]:
    """Folders in it with a file of weights, such as the checkpoints of a training."""
    found = (each for each in path.iterdir() if each.is_dir())
    return [each for each in found if any(file.name.lower().endswith(SUFFIXES) for file in each.iterdir())]


def _known(name: str, known: KnownWeights) -> Path:
    """The file in the hub's cache.

    Raises:
        UserError: it was not downloaded; with the command that does.
    """
    if (found := hub.cached(known.address)) is not None:
        return found
    raise UserError(
        f"the weights {name!r} are not on this machine ({known.repo}, {known.megabytes:,} MB, {known.licence}); "
        f"to download them add --download to vitrail train, or run: vitrail models {name} --download"
    )
