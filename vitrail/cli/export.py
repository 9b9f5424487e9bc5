"""A model for other programs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.options import AllowPickle, Json, Merge, Names, Sizes, Weights, print_json

GROUP = "Exchange weights"


def export(
    source: Weights,
    out: Path,
    /,
    *,
    to: Annotated[
        str, Parameter(help="onnx, openvino, pt2, triton, triton-openvino, or a library that vitrail convert supports.")
    ],
    images: Annotated[
        tuple[Path, ...], Parameter(help="Images to compare the outputs on, in addition to random ones.")
    ] = (),
    merge: Merge = 0,
    as_json: Json = False,
    sizes: Sizes = Sizes(),  # noqa: B008  frozen
    allow_pickle: AllowPickle = False,
    names: Names = None,
) -> None:
    """Write a model that runs without Vitrail, and compare it with the original.

    Prints the largest errors and the speed at several batch and image sizes. A file whose outputs differ is deleted.

    Examples
      vitrail export runs/birds birds.onnx --to onnx
      vitrail export runs/birds birds.xml --to openvino --images a.jpg --images b.jpg
      vitrail export runs/birds fast.xml --to openvino --merge 8
      vitrail export runs/birds models/birds --to triton
      vitrail export runs/birds birds-hf --to huggingface

    Args:
        out: A file (.onnx, .xml or .pt2), the folder of a model in a Triton repository, or for another library what
            vitrail convert takes; nothing is overwritten.
    """
    from vitrail import exporting
    from vitrail.compress import apply
    from vitrail.console import note
    from vitrail.loading import load

    shape: dict[str, Any] = {"allow_pickle": allow_pickle, "names": names, **sizes.read()}
    if merge:
        model = apply(load(source, device="cpu", **shape), "tome", r=merge)
        result = exporting.export(model, out, to=to, images=images)
    else:
        result = exporting.export(source, out, to=to, images=images, **shape)
    if as_json:
        print_json(result.to_dict())
    elif result.rows:
        print(result.table)
    note(f"written: {result.path}")
    if result.path.is_file():
        name_next("predict", result.path, IMAGE, quiet=as_json)
    else:
        name_next("inspect", source, quiet=as_json)
