"""Learning without labels from the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from vitrail.cli import _training
from vitrail.cli._training import Options

if TYPE_CHECKING:
    from vitrail.train.run import Run


def pretrain(
    data: str | None = None,
    /,
    *,
    method: str = "mae",
    options: Options = Options(),  # noqa: B008  frozen
) -> int:
    """Learn from pictures without labels; vitrail train --init goes on from there.

    Every picture in the folder is used, whatever folder it lies in. Where there are labels they are not learned from,
    but nearest neighbours among held-out pictures tell how good the features are.

    Examples
      vitrail pretrain photos/ --method mae --model S/16 --epochs 200
      vitrail pretrain photos/ --method dino --batch-size 64
      vitrail train photos/ --init runs/dino-photos --set optimizer.layer_decay=0.75
      vitrail pretrain --resume runs/dino-photos --epochs 300

    Args:
        data: A folder, .csv, .npz, .tar or a data set's name.
        method: mae, simmim, masked_patch, colorize, rotation, dino, ibot, simclr or moco_v3.
    """
    given = options.given(data=data, method=method)
    return _training.start(given if "resume" in given else {"recipe": method, **given}, _begun)


def _begun(given: dict[str, Any]) -> Run:
    """The method's recipe, or the one that was asked for."""
    import dataclasses

    from vitrail import registry
    from vitrail.errors import UserError, did_you_mean

    methods = registry.names("pretrain")
    if given["method"] not in methods and "." not in given["method"]:
        raise UserError(f"unknown method {given['method']!r}; {did_you_mean(given['method'], methods)}")
    if "data" not in given and given["recipe"] == given["method"]:
        raise UserError("nothing to learn from; give a folder of pictures, --recipe NAME or --resume RUN")
    run = _training.from_recipe(given)
    source = dataclasses.replace(run.data.source, labelled="auto")
    return dataclasses.replace(run, data=dataclasses.replace(run.data, source=source))
