"""Objects found with their masks: the measures of detection, and COCO's average precision by the overlap of masks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, cast

from torch import Tensor

from vitrail.metrics import Rows
from vitrail.metrics.coco import coco_scores
from vitrail.metrics.detection import Metrics as Base
from vitrail.nn.dense_heads import resized
from vitrail.ops import boxes, rle
from vitrail.ops.detections import Detections, ranked
from vitrail.ops.grid import Pair
from vitrail.ops.mask_outputs import unpack
from vitrail.ops.objects import TrueObjects

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry

MOST = 100  # detections of an image that COCO counts


class Row(NamedTuple):
    """What is kept of one image."""

    found: Detections
    """Those with the best scores."""
    masks: list[dict[str, Any]]
    """Of each, COCO's compressed run lengths."""


class Metrics(Base):
    """From outputs with masks (:mod:`vitrail.ops.mask_outputs`) and a list of objects with ``masks`` bool (n, H, W).

    ``compute()`` gives what detection does, of the boxes, and ``mask_ap``, ``mask_ap50``, ``mask_ap75``.
    """

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__(names)
        self._masks: list[list[dict[str, Any]]] = []

    def reduce(self, outputs: Tensor, geometries: Sequence[ImageGeometry] | None = None) -> list[Row]:
        """The objects of each image with the best scores, with masks as run lengths."""
        assert geometries is not None, "masks are compared in the pixels of their images, which geometries lead to"
        return [
            _row(found._replace(boxes_xyxy=geometry.original_boxes(found.boxes_xyxy)), geometry.original_maps(masks))
            for geometry, (found, masks) in zip(
                geometries, self._read(outputs, [each.size for each in geometries]), strict=True
            )
        ]

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images: what is kept, or raw outputs of inputs as large as the true masks."""
        true = cast("Sequence[TrueObjects]", targets)
        if isinstance(rows, Tensor):
            rows = [_row(*each) for each in self._read(rows, [_size(_masks(each)) for each in true])]
        assert len(rows) == len(true), f"{len(rows)} outputs for {len(true)} targets"
        kept = cast("Sequence[Row]", rows)
        self.detections += [row.found for row in kept]
        self._masks += [row.masks for row in kept]
        self._true += true

    def _read(self, outputs: Tensor, sizes: Sequence[Pair]) -> Iterator[tuple[Detections, Tensor]]:
        """The objects of each image with the best scores and their masks bool (n, H, W), at the size of the input."""
        for objects, masks, size in zip(
            *unpack(outputs.detach().float().cpu(), len(self.names) + 4), sizes, strict=True
        ):
            found = Detections(*(part[:MOST] for part in ranked(objects)))
            yield found, resized(masks[found.query, None], size)[:, 0] > 0

    def compute(self) -> dict[str, float]:
        masks = coco_scores(len(self.names), self.detections, self._true, Masks(self._masks))
        return super().compute() | {f"mask_{name}": masks[name] for name in ("ap", "ap50", "ap75")}


def _row(found: Detections, masks: Tensor) -> Row:
    return Row(found, [rle.compressed(mask.numpy()) for mask in masks])


def _masks(true: TrueObjects) -> Tensor:
    assert true.masks is not None, "instances are measured by their masks"
    return true.masks


def _size(masks: Tensor) -> Pair:
    return masks.shape[-2], masks.shape[-1]


class Masks:
    """Masks, as :class:`vitrail.metrics.coco.Shape`.

    Args:
        found: of each image's detections, run lengths.
    """

    kind: Literal["bbox", "segm"] = "segm"

    def __init__(self, found: Sequence[Sequence[dict[str, Any]]]) -> None:
        self._found = found

    def found(self, image: int, found: Detections) -> list[dict[str, Any]]:
        return [{"segmentation": mask} for mask in self._found[image]]

    def true(self, image: int, true: TrueObjects) -> list[dict[str, Any]]:
        masks = _masks(true).cpu()
        tight = boxes.xyxy_to_xywh(boxes.of_masks(masks)).tolist()
        areas = masks.flatten(1).sum(dim=1).tolist() if len(masks) else []
        shapes = [rle.compressed(mask.numpy()) for mask in masks]
        parts = zip(shapes, tight, areas, strict=True)
        return [{"segmentation": shape, "bbox": box, "area": area} for shape, box, area in parts]
