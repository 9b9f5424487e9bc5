"""What target kinds of a value for each pixel share: class maps, depth and the like."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar, Protocol, cast, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from vitrail.data.media.decode import BadImage
from vitrail.data.media.label_windows import WindowedLabels
from vitrail.data.targets import C, TargetKind

if TYPE_CHECKING:
    from torchvision.tv_tensors import TVTensor

    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.ops.grid import Pair


@runtime_checkable
class OpenedMaps(Protocol):
    """A column with maps of which parts may be read."""

    def opened(self, index: int) -> np.ndarray | WindowedLabels: ...


class MapTargets(TargetKind[Tensor, C]):
    """The target of an image is a map (H, W); each pixel takes the value that lies at its centre.

    Attributes:
        unknown: the value where nothing is known, as beyond the image.
    """

    spatial = True
    unknown: ClassVar[float]

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.fills = {"map": self.unknown}

    def read(self, column: Sequence[Tensor] | C, index: int) -> Tensor:
        return torch.as_tensor(np.asarray(column[index]))

    def opened(self, column: Sequence[Tensor] | C, index: int) -> Tensor:
        if not isinstance(column, OpenedMaps):
            return self.read(column, index)
        found = column.opened(index)
        if isinstance(found, np.ndarray):
            return torch.as_tensor(found)
        return cast("Tensor", found)  # as which it is asked for its size and for parts

    def size(self, target: Tensor) -> tuple[int, int]:
        return (target.shape[-2], target.shape[-1])

    def cut_out(self, target: Tensor, geometry: ImageGeometry, share: float) -> Tensor:
        if not isinstance(target, WindowedLabels):
            return self.to_input(target, geometry)
        left, top, right, bottom = map(int, geometry.region)
        try:
            return torch.from_numpy(target[top:bottom, left:right])
        except BadImage as error:
            raise BadImage(f"has a map, {target.path}, that {error}") from None

    def to_input(self, target: Tensor, geometry: ImageGeometry) -> Tensor:
        return geometry.maps(target, self.unknown)

    def to_original(self, target: Tensor, geometry: ImageGeometry) -> Tensor:
        return geometry.original_maps(target, self.unknown)

    def parts(self, target: Tensor) -> dict[str, TVTensor]:
        from torchvision.tv_tensors import Mask

        return {"map": Mask(target)}

    def from_parts(self, target: Tensor, parts: Mapping[str, TVTensor], size: tuple[int, int]) -> Tensor:
        return parts["map"].as_subclass(Tensor)

    def combine_fault(self, *, mosaic: bool, copy_paste: bool, mixup: bool) -> str | None:
        return super().combine_fault(mosaic=False, copy_paste=copy_paste, mixup=mixup)

    def joined(self, targets: Sequence[Tensor], corners: Sequence[Pair], size: Pair) -> Tensor:
        """As above; unknown where no image is."""
        canvas = targets[0].new_full(size, self.unknown)
        for target, (top, left) in zip(targets, corners, strict=True):
            canvas[top : top + target.shape[0], left : left + target.shape[1]] = target
        return canvas

    def collate(self, targets: Sequence[Tensor] | C) -> Tensor:
        """(B, H, W), in their own dtype."""
        return torch.stack([self.read(targets, image) for image in range(len(targets))])
