"""LoRA adapters in the files of Hugging Face's PEFT, and the weights that they make of those they were trained on.

Names are ``base_model.model.LAYER.lora_A.weight`` (r, in) and ``….lora_B.weight`` (out, r); layers that were trained as
a whole (``modules_to_save``) have the names of their tensors. The product is scaled by α / r, or with ``use_rslora`` by
α / √r; ``rank_pattern`` and ``alpha_pattern`` have other values for some layers.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail import files
from vitrail.checkpoints import hub
from vitrail.checkpoints.containers import open_tensors, safetensors
from vitrail.checkpoints.layer_patterns import by_layer
from vitrail.checkpoints.locate import find_weights
from vitrail.console import note
from vitrail.errors import UserError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX = "base_model.model."
MOST = 1e9  # of α
UNSUPPORTED = (
    "use_dora",
    "fan_in_fan_out",
    "lora_bias",
    "trainable_token_indices",
    "target_parameters",
)
RENAMED = {  # transformers' layers in memory since its version 5 → in its files
    r"layers\.(\d+)\.attention\.q_proj$": r"encoder.layer.\1.attention.attention.query",
    r"layers\.(\d+)\.attention\.k_proj$": r"encoder.layer.\1.attention.attention.key",
    r"layers\.(\d+)\.attention\.v_proj$": r"encoder.layer.\1.attention.attention.value",
    r"layers\.(\d+)\.attention\.o_proj$": r"encoder.layer.\1.attention.output.dense",
    r"layers\.(\d+)\.mlp\.fc1$": r"encoder.layer.\1.intermediate.dense",
    r"layers\.(\d+)\.mlp\.fc2$": r"encoder.layer.\1.output.dense",
}


@dataclass(frozen=True)
class Adapter:
    """The content of a folder of PEFT.

    Attributes:
        pairs: A, B and the scale of their product, by the name of the layer.
        replaced: tensors that take the place of the base's, by name.
        base: the weights it was trained on, as far as the folder says.
    """

    pairs: Mapping[str, tuple[Tensor, Tensor, float]]
    replaced: Mapping[str, Tensor]
    base: str | None


class Merged:
    """Weights with an adapter added, in a file that goes with its last holder; its JSON files lie beside it.

    Attributes:
        source: the weights, for messages.
    """

    def __init__(self, source: Path) -> None:
        folder = tempfile.mkdtemp(prefix="vitrail-")
        self._remove = weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        self.source, self.file = source, Path(folder) / "model.safetensors"


def is_adapter(path: str | Path) -> bool:
    """Whether a folder holds an adapter and no weights."""
    folder = Path(path)
    return (folder / CONFIG).is_file() and (folder / WEIGHTS).is_file()


def read(folder: str | Path) -> Adapter:
    """Read a folder that PEFT or :func:`write` wrote.

    Raises:
        UserError: not there, damaged, or of a kind that is not supported, with its name.
    """
    folder = Path(folder)
    if not (folder / CONFIG).is_file() or not (folder / WEIGHTS).is_file():
        raise UserError(f"{folder} holds no adapter; give the folder with {CONFIG} and {WEIGHTS}")
    settings = files.read_json(folder / CONFIG)
    if settings.get("peft_type") != "LORA":
        raise UserError(f"{folder} holds an adapter of type {settings.get('peft_type')!r}; only LORA can be merged")
    if unknown := [name for name in UNSUPPORTED if settings.get(name)]:
        raise UserError(f"{folder} uses {unknown[0]}, which Vitrail does not merge; PEFT's merge_and_unload does")
    found: dict[str, dict[str, Tensor]] = {}
    replaced: dict[str, Tensor] = {}
    with safetensors.open_tensors(folder / WEIGHTS) as opened:
        for key in opened.entries:
            name = re.sub(r"\.(modules_to_save|default)(?=\.)", "", key.removeprefix(PREFIX))
            layer, _, part = name.partition(".lora_")
            if not part:
                replaced[name] = opened.read(key)
            elif part in ("A.weight", "B.weight") and len(opened.entries[key].shape) == 2:
                found.setdefault(layer, {})[part[0]] = opened.read(key)
            else:
                raise UserError(f"{folder / WEIGHTS}: {key} is no adapter of a linear layer; merge it with PEFT")
    pairs, scale = {}, _Scale(settings, found, folder)
    for layer, pair in found.items():
        if pair.keys() != {"A", "B"} or pair["A"].shape[0] != pair["B"].shape[1]:
            raise UserError(f"{folder / WEIGHTS}: {layer} has no pair of A (r, in) and B (out, r); write it again")
        pairs[layer] = (pair["A"], pair["B"], scale(layer, len(pair["A"])))
    base = settings.get("base_model_name_or_path")
    return Adapter(pairs, replaced, base if isinstance(base, str) else None)


def merged(
    adapter: str | Path, base: str | Path | None = None, *, classes: Sequence[str] = (), allow_pickle: bool = False
) -> Merged:
    """The weights with an adapter added.

    Args:
        adapter: PEFT's folder.
        base: the weights that it was trained on; default: those that the folder names.
        classes: names for a head that the adapter brings to weights of another library.
        allow_pickle: accept a file of torch.save.

    Raises:
        UserError: no such weights or adapter, or they do not belong together.
    """
    found = read(adapter)
    file = find_weights(_base(found, Path(adapter)) if base is None else base, allow_pickle=allow_pickle)
    with open_tensors(file, allow_pickle=allow_pickle) as opened:
        state, metadata = {name: opened.read(name) for name in opened.entries}, dict(opened.metadata)
    for layer, (a, b, scale) in found.pairs.items():
        name = _place(f"{_in_files(layer)}.weight", state, file)
        if state[name].shape != (len(b), a.shape[1]):
            raise UserError(f"{adapter} adapts {layer} as {len(b)} × {a.shape[1]}, and {file} has another shape there")
        state[name] = (state[name].float() + product(a, b, scale)).to(state[name].dtype)
    state |= {name if name in state else _known(name, state): value for name, value in found.replaced.items()}
    note(f"merged: {len(found.pairs)} layers of {adapter}, and {len(found.replaced)} tensors replaced")
    made = Merged(file)
    safetensors.write(made.file, state, metadata)
    folder = made.file.parent
    for beside in file.parent.glob("*.json") if "vitrail" not in metadata else ():
        shutil.copy(beside, folder)
    head = next((value for name, value in found.replaced.items() if name.endswith("classifier.weight")), None)
    if head is not None and (folder / "config.json").is_file():
        _name_classes(folder / "config.json", len(head), classes)
    return made


def product(a: Tensor, b: Tensor, scale: float) -> Tensor:
    """What a pair adds to its kernel, float32 (out, in)."""
    return torch.mul(b.float() @ a.float(), scale)


def _base(found: Adapter, folder: Path) -> str | Path:
    """The weights that an adapter names: a path, from its folder too, or a model of the hub, which is not fetched.

    Raises:
        UserError: it names none, or they are not here.
    """
    if found.base is None:
        raise UserError(f"{folder} does not name its weights; add it to them with `vitrail merge-adapter`")
    for path in (Path(found.base), folder / found.base):
        if path.exists():
            return path
    address = f"hf://{found.base}"
    if hub.ADDRESS.fullmatch(address) and (local := hub.cached(address)) is not None:
        return local
    raise UserError(
        f"the weights {found.base!r} that {folder} was trained on are not here; fetch them, and run "
        f"`vitrail merge-adapter WEIGHTS {folder} merged.safetensors`"
    )


class _Scale:
    """α / r of a layer, PEFT's ``scaling``."""

    def __init__(self, settings: Mapping[str, Any], layers: Iterable[str], folder: Path) -> None:
        patterns = settings.get("alpha_pattern") or {}
        if not isinstance(patterns, dict):
            raise UserError(f"{folder / CONFIG} has an alpha_pattern that is no mapping; write it again")
        try:
            self.own = by_layer(patterns, layers)
        except UserError as error:
            raise UserError(f"{folder / CONFIG}: {error}") from None
        self.settings, self.folder = settings, folder

    def __call__(self, layer: str, rank: int) -> float:
        alpha = self.own.get(layer, self.settings.get("lora_alpha"))
        if not isinstance(alpha, int | float) or not abs(alpha) < MOST or not rank:
            raise UserError(f"{self.folder / CONFIG} has no lora_alpha that is a number; write it again")
        return float(alpha) / (math.sqrt(rank) if self.settings.get("use_rslora") else rank)


def _in_files(layer: str) -> str:
    for pattern, name in RENAMED.items():
        layer = re.sub(pattern, name, layer)
    return layer


def _place(name: str, state: Mapping[str, Tensor], file: Path) -> str:
    """The tensor of the base that is called so, with or without the name of the part of the model that it lies in."""
    found = _known(name, state)
    if found not in state:
        raise UserError(f"{file} has no {name}; give the weights that the adapter was trained on")
    return found


def _known(name: str, state: Mapping[str, Tensor]) -> str:
    if name in state:
        return name
    alike = [each for each in state if each.endswith(f".{name}") or name.endswith(f".{each}")]
    return alike[0] if len(alike) == 1 else name


def _name_classes(config: Path, count: int, classes: Sequence[str]) -> None:
    """Let the description of another library's weights name as many classes as the head has."""
    if classes and len(classes) != count:
        raise UserError(f"the adapter's head has {count} classes and {len(classes)} names are given; name all")
    settings = files.read_json(config)
    names = list(classes) or [f"class {number}" for number in range(count)]
    if classes or len(settings.get("id2label") or {}) != count:
        settings["id2label"] = dict(enumerate(names))
        settings["label2id"] = {name: number for number, name in enumerate(names)}
        settings.pop("num_labels", None)
        config.write_text(json.dumps(settings))
