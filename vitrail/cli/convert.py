"""Weights from one library to another."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from vitrail.terminal.next_command import name_next
from vitrail.terminal.options import AllowPickle, Names, Sizes, Weights

GROUP = "Exchange weights"


def convert(
    source: Weights,
    out: Path,
    /,
    *,
    to: Annotated[
        str,
        Parameter(
            help="huggingface, timm, torchvision, google, openai, vit_pytorch, meta, native, or a table (.yaml)."
        ),
    ],
    sizes: Sizes = Sizes(),  # noqa: B008  frozen
    allow_pickle: AllowPickle = False,
    names: Names = None,
) -> None:
    """Write a model's weights in the format of another library.

    A new folder gets the configuration, the preprocessing and the class names too; a single file only the tensors.

    Examples
      vitrail convert runs/birds birds-hf --to huggingface
      vitrail convert hf://google/vit-base-patch16-224 vit-b.npz --to google
      vitrail convert vit.safetensors vit-384.safetensors --to native --image-size 384

    Args:
        out: A new folder, or a file to write.
    """
    from vitrail import conversion

    print(conversion.convert(source, out, to=to, allow_pickle=allow_pickle, names=names, **sizes.read()))
    name_next("inspect", out)
