"""Objects found with their masks: the measures of detection, and COCO's average precision by the overlap of masks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple, cast

from torch import Tensor

from vitrail.metrics import Headline, Rows
from vitrail.metrics.coco import coco_scores
from vitrail.metrics.detection import Metrics as Base
from vitrail.ops import boxes, rle
from vitrail.ops.detections import EACH_CLASS, Detections, Ranking, ranked
from vitrail.ops.mask_outputs import unpack
from vitrail.ops.objects import TrueObjects
from vitrail.ops.placed_masks import PlacedMask, composed
from vitrail.ops.tile_merging import COMPARABLE

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import Tile, TileGrid


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

    scalars = (*Base.scalars, "mask_ap", "mask_ap50", "mask_ap75")
    headlines: ClassVar[dict[str, Headline]] = {
        "mask_ap": Headline("AP of masks, mean of IoU 0.50 … 0.95", "{:.4f}"),
        "mask_ap50": Headline("AP of masks at IoU 0.50", "{:.4f}"),
        **Base.headlines,
    }

    def __init__(self, names: Sequence[str], ranking: Ranking = EACH_CLASS) -> None:
        super().__init__(names, ranking)
        self._masks: list[list[dict[str, Any]]] = []

    def reduce(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Row]:
        """The objects of each image with the best scores, with masks as run lengths, in its own pixels."""
        parts = unpack(outputs.detach().float().cpu(), len(self.names) + 4)
        return [self._row(*each) for each in zip(*parts, geometries, strict=True)]

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Row:
        """The same of a picture that is seen in tiles."""
        objects, masks = self.placed(found, grid)
        return Row(objects, [mask.compressed(grid.size) for mask in masks])

    def placed(
        self, found: Iterable[TileOutputs], grid: TileGrid, threshold: float = 0.0
    ) -> tuple[Detections, list[PlacedMask]]:
        """The objects of a picture with their masks, merged by their boxes.

        Args:
            threshold: of their scores; masks that no such object can consist of are left out at once.
        """
        masks: list[PlacedMask | None] = []

        def objects() -> Iterator[tuple[Tile, Tensor]]:
            for tile in found:
                rows, logits = unpack(tile.outputs[None].cpu(), len(self.names) + 4)
                needed = rows[0, :, :-4].amax(dim=1) >= COMPARABLE * threshold
                made = iter(tile.geometry.original_masks(logits[0][needed]))
                masks.extend(PlacedMask.of(next(made).numpy(), tile.tile) if own else None for own in needed.tolist())
                yield tile.tile, self.of_tile(tile, rows[0])

        result, parts = self.merged(objects(), grid)
        result = result.over(threshold)
        return result, [_whole([masks[part] for part in parts[query]]) for query in result.query.tolist()]

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images: what is kept of their outputs."""
        kept, true = cast("Sequence[Row]", rows), cast("Sequence[TrueObjects]", targets)
        assert len(kept) == len(true), f"{len(kept)} outputs for {len(true)} targets"
        self.detections += [row.found for row in kept]
        self._masks += [row.masks for row in kept]
        self._true += true

    @property
    def masks(self) -> list[list[dict[str, Any]]]:
        """Of each image's detections, compressed run lengths."""
        return self._masks

    def _row(self, objects: Tensor, logits: Tensor, geometry: ImageGeometry) -> Row:
        found = ranked(objects, self.ranking)
        query, places = found.query.unique(return_inverse=True)  # several classes of a query have one mask
        masks = [rle.compressed(mask.numpy()) for mask in geometry.original_masks(logits[query])]
        boxes = geometry.original_boxes(found.boxes_xyxy)
        return Row(found._replace(boxes_xyxy=boxes), [masks[place] for place in places.tolist()])

    def compute(self) -> dict[str, float]:
        masks = coco_scores(len(self.names), self.detections, self._true, Masks(self._masks))
        return super().compute() | {f"mask_{name}": masks[name] for name in ("ap", "ap50", "ap75")}


def _whole(parts: Sequence[PlacedMask | None]) -> PlacedMask:
    return composed([part for part in parts if part is not None])


def _masks(true: TrueObjects) -> Tensor:
    assert true.masks is not None, "instances are measured by their masks"
    return true.masks


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
        shapes = [rle.compressed(mask.numpy()) for mask in masks]
        return [{"segmentation": shape, "bbox": box} for shape, box in zip(shapes, tight, strict=True)]

    def ignored(self, true: TrueObjects) -> Tensor:
        """Those whose masks are not known, too."""
        return true.ignored if true.outlined is None else true.ignored | ~true.outlined
