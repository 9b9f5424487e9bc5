"""Opening and writing weights of other libraries: which dialect a file speaks, what it describes, its tensors.

A dialect is one file in ``dialects/``, with these names::

    LIBRARY                            whose it is; ``--to`` takes the first dialect of a library that can hold a model
    FILE                               what a writer makes: "model.safetensors" or "model.npz"
    IGNORED                            patterns of tensors that a model can do without
    matches(names, beside) -> bool     is this file of this dialect? (canonical names, not of all later blocks)
    canonical(name) -> str             one name for what versions of the library name differently
    describe(shapes, beside) -> Model  the architecture, from shapes and JSON alone
    rules(model) -> list[Rule]         the two-way table
    TASK                               optional: the pretraining method whose decoder the files hold too
    lacks(model) -> str | None         what of a model the library cannot express; None: it can hold it
    sidecars(model) -> {file: JSON}    what to write beside the tensors, such as config.json

A dialect without ``lacks`` is only read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from torch import Tensor

from vitrail import files, registry
from vitrail.checkpoints import rules
from vitrail.checkpoints.containers import Tensors, npz, safetensors
from vitrail.checkpoints.model import Beside, Model
from vitrail.data.indexing.names import classes_beside
from vitrail.errors import UserError, did_you_mean
from vitrail.nn.patch_embed import PatchEmbedConfig

DIALECTS = "checkpoints.dialects"
CONFIG, OPEN_CLIP_CONFIG = "config.json", "open_clip_config.json"
PREPROCESSOR, PROCESSOR = "preprocessor_config.json", "processor_config.json"  # the second holds a tokenizer's too
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "open_clip_model.safetensors", "pytorch_model.bin")
MAX_JSON = 10_000_000
_REPEATED = re.compile(r"\.(?:[4-9]|\d\d+)\.")  # in the names of later blocks, which tell no more than the first's


@dataclass(frozen=True)
class Foreign:
    """An open file of another library whose header and JSON have been read, and no tensor yet."""

    tensors: Tensors
    dialect: str
    model: Model

    def plan(self, like: Mapping[str, Tensor]) -> rules.Plan:
        """How the file becomes the state dict of a model like this; no tensor is read.

        Raises:
            UserError: tensors are missing, left over or of another shape.
        """
        module = registry.load(DIALECTS, self.dialect)
        table = module.rules(self.model)
        return rules.plan(self.tensors, table, like, canonical=module.canonical, ignored=module.IGNORED)


def find(tensors: Tensors) -> Foreign:
    """What an open weights file is.

    Raises:
        UserError: of no known dialect, or what lies beside it is damaged or hostile.
    """
    path = tensors.path
    beside = read_beside(path, tensors.metadata)
    name = _dialect(tensors, beside, path)
    module = registry.load(DIALECTS, name)
    shapes = {module.canonical(key): entry.shape for key, entry in tensors.entries.items()}
    try:
        model = module.describe(shapes, beside)
    except (KeyError, ValueError, TypeError, IndexError, AttributeError, ArithmeticError) as error:
        if isinstance(error, UserError):
            raise UserError(f"{path}: {error}") from None
        raise UserError(f"{path} looks like {name}, but its shapes or config do not tell a model: {error!r}") from None
    return Foreign(tensors, name, _dropping(model))


def weights_in(path: Path) -> Path:
    """The weights file of a folder that another library wrote; a file is itself.

    Raises:
        UserError: the folder has none.
    """
    if not path.is_dir():
        return path
    candidates = [path / name for name in WEIGHTS if (path / name).is_file()]
    candidates += [] if candidates else sorted([*path.glob("*.safetensors"), *path.glob("*.npz")])
    if not candidates:
        raise UserError(
            f"{path} holds no weights: neither weights/best.safetensors of a run nor {WEIGHTS[0]}; "
            "give a folder that does"
        )
    return candidates[0]


def libraries() -> dict[str, list[str]]:
    """Every library that can be written for, with its dialects."""
    found: dict[str, list[str]] = {}
    for name in registry.names(DIALECTS):
        module = registry.load(DIALECTS, name)
        if hasattr(module, "lacks"):
            found.setdefault(module.LIBRARY, []).append(name)
    return found


def dialect_for(target: str, model: Model) -> str:
    """The dialect to write a model in.

    Args:
        target: a library, or one of its dialects.

    Raises:
        UserError: no such library, or none of its dialects can hold the model; what each lacks is named.
    """
    known = libraries()
    dialects = known.get(target) or [name for names in known.values() for name in names if name == target]
    if not dialects:
        names = dict.fromkeys((*known, *(name for names in known.values() for name in names)))
        raise UserError(f"unknown library {target!r}; {did_you_mean(target, names)}")
    lacking = {name: lacks(name, model) for name in dialects}
    for name, missing in lacking.items():
        if missing is None:
            return name
    reasons = "; ".join(f"{name} has no {missing}" for name, missing in lacking.items())
    raise UserError(f"{target} cannot hold this model: {reasons}. Save it as native")


def lacks(dialect: str, model: Model) -> str | None:
    """What a dialect cannot express of a model; None: it can hold it."""
    module = registry.load(DIALECTS, dialect)
    if model.task != getattr(module, "TASK", ""):
        return f"decoder of {model.task}" if model.task else "model without the decoder of its pretraining"
    missing: str | None = module.lacks(model)
    return missing


def save(dialect: str, out: str | Path, model: Model, state: Mapping[str, Tensor]) -> Path:
    """Write a model in another library's terms: to a file if ``out`` has a suffix, else to a new folder.

    Raises:
        UserError: the library cannot express the model, or nothing can be written there.
    """
    module, out = registry.load(DIALECTS, dialect), Path(out)
    if (lacking := lacks(dialect, model)) is not None:
        raise UserError(f"{dialect} has no {lacking}, which this model has; save it as native")
    tensors = rules.save(state, module.rules(model), dialect)
    container = npz if module.FILE.endswith(".npz") else safetensors
    size = sum(value.nbytes for value in tensors.values())
    if out.suffix:
        if out.suffix not in container.SUFFIXES:
            raise UserError(f"{dialect} is written as {container.SUFFIXES[0]}, not {out.suffix}; name {out.name} so")
        with files.replacing(out, size=size) as temporary:
            container.write(temporary, tensors, {"format": "pt"})
        return out
    if out.exists():
        raise UserError(f"{out} exists already; choose another place")
    with files.replacing(out, size=size) as temporary:
        temporary.mkdir()
        container.write(temporary / module.FILE, tensors, {"format": "pt"})
        for name, content in module.sidecars(model).items():
            files.write_json(temporary / name, content)
    return out


def _dropping(model: Model) -> Model:
    """Where patches do not cover the image, all libraries' convolutions leave out its last pixels."""
    vit = model.vit
    covered = all(size % patch == 0 for size, patch in zip(vit.image_size, vit.patch_size, strict=True))
    if covered or not isinstance(vit.embed, PatchEmbedConfig) or vit.embed.stride is not None:
        return model
    return replace(model, vit=replace(vit, embed=replace(vit.embed, drop=True)))


def _dialect(tensors: Tensors, beside: Beside, path: Path) -> str:
    found = []
    told = [key for key in tensors.entries if not _REPEATED.search(key)]
    for name in registry.names(DIALECTS):
        module = registry.load(DIALECTS, name)
        if module.matches({module.canonical(key) for key in told}, beside):
            found.append(name)
    if not found:
        some = ", ".join(list(tensors.entries)[:3])
        raise UserError(f"{path} is of no dialect that Vitrail knows (its tensors: {some}, …); it is no ViT's")
    if len(found) > 1:
        raise UserError(f"{path} holds tensors of several libraries ({', '.join(found)}); keep those of one")
    return found[0]


def read_beside(path: Path, metadata: dict[str, str]) -> Beside:
    """What lies beside a weights file.

    Args:
        metadata: the texts inside the file.

    Raises:
        UserError: a file there is too large, or no JSON of its kind.
    """
    folder = path.parent
    both = [_json(folder / name) for name in (CONFIG, OPEN_CLIP_CONFIG)]  # a folder for two libraries has both
    if path.name.startswith("open_clip"):
        both.reverse()
    return Beside(
        config=both[0] or both[1],
        preprocessor=_json(folder / PREPROCESSOR) or _json(folder / PROCESSOR).get("image_processor") or {},
        classes=classes_beside(folder) if _small(folder / "classes.json") else (),
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

    if not _small(path):
        return {}
    try:
        found = safetensors.strict_json(path.read_bytes(), refuse)
    except OSError as error:
        refuse(str(error.strerror))
    if not isinstance(found, dict):
        refuse("it holds no JSON object")
    assert isinstance(found, dict)
    return found


def _small(path: Path) -> bool:
    """Is there such a file?

    Raises:
        UserError: one of more bytes than any config has.
    """
    if path.is_file() and (size := path.stat().st_size) > MAX_JSON:
        raise UserError(f"{path} has {size:,} bytes, more than {MAX_JSON:,}; it is no config")
    return path.is_file()
