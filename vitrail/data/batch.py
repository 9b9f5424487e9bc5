"""What a loader yields and a loss takes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, TypedDict, cast

import torch
from torch import Tensor

from vitrail.data.transforms.geometry import ImageGeometry

if TYPE_CHECKING:
    from vitrail.data.transforms.tiles import TiledPicture


class TargetBatch(Protocol):
    """The targets of B images, of a kind that is no tensor; it moves and splits as a tensor does."""

    def __len__(self) -> int: ...
    def __getitem__(self, index: int, /) -> object: ...
    def chunk(self, count: int) -> Sequence[TargetBatch]: ...
    def to(self, device: torch.device | str, *, non_blocking: bool = False) -> TargetBatch: ...
    def pin_memory(self) -> TargetBatch: ...


Targets: TypeAlias = Tensor | TargetBatch


class Batch(TypedDict, total=False):
    """One batch of B images.

    Attributes:
        images: float32 (B, C, H, W), normalised. Methods that learn from several views have ``view0``, ``view1`` … in
            its place; :func:`vitrail.data.views_of` reads them.
        targets: what the target kind's ``collate`` gives; in evaluation a list of each image's own target.
        padding: bool (B, H, W), true outside of the image; absent where no image has a border.
        geometries: in evaluation of spatial targets, where each input lies in its image.
        tiled: in evaluation by tiles, in place of ``images``: each picture with its tiles.
        index: int64 (B,), the positions in the source.
        keys: int64 (B,) on the host, from which a loss draws its random numbers.
        divisors: by name, what the loss divides sums by, such as a number of objects. Training sets them from the whole
            step, all pieces and processes; where they are absent, a loss counts in the batch alone.
        bad: position and reason of each sample that could not be read and was left out.
    """

    images: Tensor
    targets: Targets
    padding: Tensor
    geometries: list[ImageGeometry]
    tiled: list[TiledPicture]
    index: Tensor
    keys: Tensor
    divisors: dict[str, Tensor]
    bad: list[tuple[int, str]]


def to_device(batch: Batch, device: torch.device) -> Batch:
    """What a loss needs, on the device. Keys stay on the host, where numbers are drawn; the index is left out."""
    wanted = {key: value for key, value in _entries(batch).items() if key not in ("index", "bad")}
    moved = {k: v if k == "keys" else v.to(device, non_blocking=True) for k, v in wanted.items()}
    return cast("Batch", moved)


def chunks(batch: Batch, count: int) -> list[Batch]:
    """At most ``count`` batches of equal numbers of images, as :meth:`torch.Tensor.chunk` splits."""
    values = _entries(batch)
    parts = zip(*(value.chunk(count) for value in values.values()), strict=True)
    return [cast("Batch", dict(zip(values, part, strict=True))) for part in parts]


def single(batch: Batch, row: int) -> Batch:
    """The batch of one image of the batch."""
    entries = {name: value for name, value in _entries(batch).items() if name != "bad"}
    return cast("Batch", {name: value.chunk(len(value))[row] for name, value in entries.items()})


def views_of(batch: Batch) -> list[Tensor]:
    """The views of a batch, in order."""
    values = _entries(batch)
    return [values[f"view{i}"] for i in range(sum(name.startswith("view") for name in values))]


def _entries(batch: Batch) -> dict[str, Any]:
    return {**batch}


def tensor_targets(batch: Batch) -> Tensor:
    """The targets of a batch whose target kind collates them into one tensor."""
    targets = batch["targets"]
    assert isinstance(targets, Tensor), f"targets are a tensor, not {type(targets).__name__}"
    return targets
