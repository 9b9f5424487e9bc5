"""Adapters in the files of Hugging Face's PEFT: ``adapter_config.json`` and ``adapter_model.safetensors``.

PEFT reads what :func:`write` wrote (``PeftModel.from_pretrained(task, folder)``), and :func:`merge_adapter` adds what
PEFT wrote to the weights it was trained on, of Vitrail or of another library (:mod:`vitrail.checkpoints.adapters`).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitrail import files
from vitrail.checkpoints import adapters
from vitrail.checkpoints.adapters import CONFIG, PREFIX, WEIGHTS
from vitrail.checkpoints.adapters import Adapter as Adapter
from vitrail.checkpoints.adapters import read as read
from vitrail.checkpoints.containers import safetensors
from vitrail.errors import UserError
from vitrail.loading import load
from vitrail.lora import LoraConfig, adapted, rest, tensors
from vitrail.predictor import Predictor
from vitrail.trainable import EncoderModule


def write(folder: Path, model: EncoderModule, config: LoraConfig, base: str | None) -> None:
    """Write the adapters of a model and what was trained beside them.

    Args:
        base: the weights that the adapters belong to.

    Raises:
        UserError: the disk is full or failing.
    """
    others = rest(model)
    state = {f"{PREFIX}{name}": value for name, value in {**tensors(model), **others}.items()}
    settings = {
        "peft_type": "LORA",
        "task_type": None,
        "base_model_name_or_path": base,
        "r": config.rank,
        "lora_alpha": config.alpha,
        "lora_dropout": 0.0,
        "bias": "none",
        "fan_in_fan_out": False,
        "init_lora_weights": True,
        "target_modules": [name for name, _ in adapted(model)],
        "modules_to_save": sorted({name.split(".")[0] for name in others}) or None,
        "inference_mode": True,
    }
    with files.replacing(folder / WEIGHTS, size=sum(value.nbytes for value in state.values())) as temporary:
        safetensors.write(temporary, state, {"format": "pt"})
    files.write_json(folder / CONFIG, settings)


def merge_adapter(
    base: str | Path,
    adapter: str | Path,
    *,
    classes: Sequence[str] = (),
    allow_pickle: bool = False,
    names: str | None = None,
) -> Predictor:
    """The predictor of weights with an adapter added.

    Args:
        base: the weights that it was trained on, of Vitrail or of another library.
        adapter: PEFT's folder.
        classes: names for a head that the adapter brings to weights of another library.
        allow_pickle, names: as of :func:`vitrail.load`.

    Raises:
        UserError: no such weights or adapter, or they do not belong together.
    """
    merged = adapters.merged(adapter, base, classes=classes, allow_pickle=allow_pickle)
    try:
        return load(merged.file, device="cpu", names=names)
    except UserError as error:
        raise UserError(str(error).replace(str(merged.file), f"{merged.source} with {adapter}")) from None
