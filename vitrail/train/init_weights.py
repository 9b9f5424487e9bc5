"""The weights that a training starts from: another file's encoder, and what else fits."""

from __future__ import annotations

from collections.abc import Sequence
from fnmatch import fnmatchcase

from torch import Tensor

from vitrail.build import open_checkpoint
from vitrail.console import note
from vitrail.errors import UserError
from vitrail.predictions import Prediction
from vitrail.sizes import adapt_channels, resize
from vitrail.tasks import Task
from vitrail.trainable import Embedder, EncoderModule, Trainable, image_encoder


def initialise_from(task: Trainable, path: str, *, allow_pickle: bool = False, names: str | None = None) -> None:
    """Start from trained weights, at another image or patch size, for other channels and other classes too.

    All encoders of the task get those of the source's first one, which must have the same architecture. The rest is
    kept where it is for the same outputs; of a task with ``class_rows``, such as a detector, also for other classes,
    but for the rows of those that the source does not have. Any other head is reinitialised. Prints which.

    Args:
        allow_pickle, names: as of :func:`vitrail.build.open_checkpoint`.

    Raises:
        UserError: no weights there, or of another architecture.
    """
    found = open_checkpoint(path, allow_pickle=allow_pickle, names=names, backbone=True)
    for line in found.assumed:
        note(line)
    source = found.load()
    encoder = image_encoder(source)
    before, wanted = encoder.config, image_encoder(task).config
    message = "backbone kept"
    if (before.image_size, before.patch_size) != (wanted.image_size, wanted.patch_size):
        resize(source, wanted.image_size, wanted.patch_size)
        message = f"backbone resized from {before.image_size} pixels to {wanted.image_size}"
    if (adapted := adapt_channels(source, wanted.channels)) is not None:
        message += f", {adapted}"
    weights = encoder.state_dict()
    if differing := _differing(weights, image_encoder(task).state_dict()):
        raise UserError(
            f"the weights of {path} are for another model (vit.{differing[0]} differs); give the same --model"
        )
    rest, own = _without_encoders(source), _without_encoders(task)
    differing = _differing(rest, own)
    outputs = len(_outputs(task))
    if not differing and _outputs(source) == _outputs(task):
        kept, head = rest, "head kept"
    elif (
        isinstance(task, Task)
        and task.class_rows
        and (isinstance(source, type(task)) or isinstance(task, type(source)))
    ):
        kept = _kept_by_class(rest, own, _outputs(source), task)
        known = len(set(task.names).intersection(_outputs(source)))
        fresh = sorted({name.split(".")[0] for name in own.keys() - kept.keys()})
        head = f"head kept, its rows for {outputs - known} of {outputs} classes fresh"
        head += f", and fresh {', '.join(fresh)}" if fresh else ""
    else:
        kept = {name: rest[name] for name in rest if name.startswith("pool.") and name not in differing}
        head = f"fresh head for {outputs} outputs" if outputs else "the rest is fresh"
    task.load_state_dict(kept, strict=False)
    for each in task.encoders().values():
        each.load_state_dict(weights)
    note(f"init from {path}: {message}, {head}")


def _differing(found: dict[str, Tensor], wanted: dict[str, Tensor]) -> list[str]:
    """The names that only one of them has, or in another shape."""
    both = {name for name in found.keys() & wanted.keys() if found[name].shape == wanted[name].shape}
    return sorted((found.keys() | wanted.keys()) - both)


def _kept_by_class(
    found: dict[str, Tensor], wanted: dict[str, Tensor], names: Sequence[str], task: Task[Prediction]
) -> dict[str, Tensor]:
    """What a task takes of a state dict for the classes ``names``: tensors of the same shape, and of those with a row
    for each class the rows of the classes that it shares, with all rows of no class."""
    of_classes = {name for name in found if any(fnmatchcase(name, each) for each in task.class_rows)}
    kept = {name: found[name] for name in found if name not in of_classes}
    kept = {name: value for name, value in kept.items() if name in wanted and wanted[name].shape == value.shape}
    shared = [name for name in task.names if name in names]
    to, of = ([each.index(name) for name in shared] for each in (task.names, list(names)))
    for name in of_classes & wanted.keys():
        rows = wanted[name].clone()
        others = len(rows) - len(task.names)
        if found[name].shape == (len(names) + others, *rows.shape[1:]):
            rows[to], rows[len(task.names) :] = found[name][of], found[name][len(names) :]
            kept[name] = rows
    return kept


def _without_encoders(task: EncoderModule) -> dict[str, Tensor]:
    """The state dict without the encoders' tensors."""
    inside = tuple(f"{path}." for path in task.encoders())
    return {name: value for name, value in task.state_dict().items() if not name.startswith(inside)}


def _outputs(model: EncoderModule) -> tuple[str, ...]:
    """The names of the classes or numbers that it predicts; none if it has no head."""
    return model.names if isinstance(model, Embedder) else ()
