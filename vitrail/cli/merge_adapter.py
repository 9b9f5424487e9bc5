"""One model from weights and a LoRA adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import AllowPickle, Names, Weights

GROUP = "Exchange weights"


def merge_adapter(
    base: Weights,
    adapter: Path,
    out: Path,
    /,
    *,
    allow_pickle: AllowPickle = False,
    names: Names = None,
    classes: Annotated[str | None, Parameter(metavar="A,B,C", show_default=False)] = None,
) -> None:
    """Add a LoRA adapter of PEFT to the weights that it was trained on.

    Examples
      vitrail merge-adapter runs/birds runs/tuned/adapter/last merged.safetensors
      vitrail merge-adapter hf://google/vit-base-patch16-224-in21k peft-output merged.safetensors --classes cat,dog

    Args:
        adapter: A folder with adapter_config.json and adapter_model.safetensors.
        out: A new weights file (.safetensors).
        classes: Names for the classes of a head that the adapter brings to weights of another library.
    """
    from vitrail.console import note
    from vitrail.files import require_free
    from vitrail.lora.peft import merge_adapter as merged

    require_free(out)
    named = tuple(classes.split(",")) if classes else ()
    merged(base, adapter, classes=named, allow_pickle=allow_pickle, names=names).save(out)
    note(f"written: {out}")
    name_next("predict", out, IMAGE)
