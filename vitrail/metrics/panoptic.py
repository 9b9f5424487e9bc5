"""Panoptic quality: how well segments are found and outlined (Kirillov et al. 2019, equation 1).

Shapes: K classes, n segments, images of H × W pixels of their own size.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Protocol, cast

import torch
from torch import Tensor

from vitrail.metrics import Headline, Rows, ratio, rows
from vitrail.metrics import Metrics as Base
from vitrail.ops.mask_outputs import unpack
from vitrail.ops.panoptic import Found, MergeConfig, merged
from vitrail.ops.panoptic_tiles import stitched

if TYPE_CHECKING:
    from vitrail.data.transforms.geometry import ImageGeometry
    from vitrail.data.transforms.tiles import TileOutputs
    from vitrail.ops.tiles import TileGrid

IOU = 0.5  # above which a pair is matched; no segment then has two partners


class TrueSegments(Protocol):
    """n annotated segments, such as :class:`vitrail.data.segments.Segments`."""

    @property
    def numbers(self) -> Tensor:
        """(H, W): 0 where a pixel is of none, else from 1 on which segment."""

    @property
    def labels(self) -> Tensor:
        """(n,) int64."""

    @property
    def crowd(self) -> Tensor:
        """(n,) bool."""


class Metrics(Base):
    """From outputs (:mod:`vitrail.ops.mask_outputs`) and a list of true segments, as ``panopticapi`` counts.

    A true and a predicted segment of one class match where their IoU is over 0.5, pixels without annotation aside. A
    predicted segment without a partner is wrong, unless over half of it is not annotated or a crowd of its class.

    ``compute()`` gives ``pq``, ``sq`` (the mean IoU of matches) and ``rq`` (the F1 of matching), means over the
    classes that occur or are predicted, and the same of things and of stuff (``pq_things`` …).

    Args:
        things: of each class, whether its segments are objects.
    """

    scalars = tuple(f"{name}{group}" for group in ("", "_things", "_stuff") for name in ("pq", "sq", "rq"))
    headlines: ClassVar[dict[str, Headline]] = {
        "pq": Headline("panoptic quality", "{:.4f}"),
        "sq": Headline("mean IoU of matches (SQ)", "{:.4f}"),
        "rq": Headline("F1 of matching (RQ)", "{:.4f}"),
        "pq_things": Headline("panoptic quality of things", "{:.4f}"),
        "pq_stuff": Headline("panoptic quality of stuff", "{:.4f}"),
    }

    def __init__(self, names: Sequence[str], things: Sequence[bool], merging: MergeConfig) -> None:
        super().__init__(names)
        self.things, self.merging = tuple(things), merging
        self._iou = torch.zeros(len(self.names), dtype=torch.float64)
        self._counts = torch.zeros(3, len(self.names), dtype=torch.int64)  # matched, wrong, missed

    def reduce(self, outputs: Tensor, geometries: Sequence[ImageGeometry]) -> list[Found]:
        """The segments of each image, in its own pixels."""
        parts = unpack(outputs.detach().float().cpu(), len(self.names) + 1)
        return [merged(*image, self.things, self.merging) for image in zip(*parts, geometries, strict=True)]

    def reduce_tiles(self, found: Iterable[TileOutputs], grid: TileGrid) -> Found:
        """The same of a picture that is seen in tiles (:mod:`vitrail.ops.panoptic_tiles`)."""
        parts = ((each.tile, self.reduce(each.outputs[None], [each.geometry])[0]) for each in found)
        return stitched(parts, grid, self.things)

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images: what is kept of their outputs."""
        pairs = zip(cast("Sequence[Found]", rows), cast("Sequence[TrueSegments]", targets), strict=True)
        for predicted, true in pairs:
            self._add(predicted, true)

    def compute(self) -> dict[str, float]:
        things = torch.tensor(self.things)
        groups = {"": torch.ones_like(things), "_things": things, "_stuff": ~things}
        return {
            f"{name}{group}": values[own].nanmean().item() if own.any() else float("nan")
            for group, own in groups.items()
            for name, values in self._per_class().items()
        }

    def details(self) -> dict[str, Any]:
        """``classes``: rows, whose ``support`` is in segments."""
        matched, wrong, missed = self._counts
        parts = {"precision": ratio(matched, matched + wrong), "recall": ratio(matched, matched + missed)}
        return {"classes": rows(self.names, **self._per_class(), **parts, support=matched + missed)}

    def _add(self, predicted: Found, true: TrueSegments) -> None:
        joint, matches = matched(predicted, true)
        for _, label, iou in matches:
            self._iou[label] += iou
            self._counts[0, label] += 1
        partners = {pair for pair, _, _ in matches}
        found, known = {pair[1] for pair in partners}, {pair[0] for pair in partners}
        for place, label in enumerate(predicted.labels.tolist()):
            area = joint[:, place + 1].sum()
            crowd = torch.cat((torch.ones(1, dtype=torch.bool), true.crowd.cpu() & (true.labels.cpu() == label)))
            if area and place not in found and joint[crowd, place + 1].sum() <= 0.5 * area:
                self._counts[1, label] += 1
        for place, label in enumerate(true.labels.tolist()):
            if place not in known and not true.crowd[place]:
                self._counts[2, label] += 1

    def _per_class(self) -> dict[str, Tensor]:
        """``pq``, ``sq`` and ``rq`` (each K), NaN for a class that neither occurs nor is predicted."""
        matched, wrong, missed = self._counts.double()
        weight = matched + 0.5 * wrong + 0.5 * missed
        return {
            "pq": self._iou / weight,
            "sq": torch.where(weight > 0, ratio(self._iou, matched), torch.nan),
            "rq": matched / weight,
        }


def matched(predicted: Found, true: TrueSegments) -> tuple[Tensor, list[tuple[tuple[int, int], int, float]]]:
    """Pixels that a true and a predicted number share, int64 (n + 1, m + 1), and the matches: places of the true and
    of the predicted segment, their class and their IoU."""
    assert predicted.numbers.shape == true.numbers.shape, "the map of a prediction is as large as the true one"
    num_true, num_found = len(true.labels) + 1, len(predicted.labels) + 1
    pairs = true.numbers.long().cpu() * num_found + predicted.numbers.long()
    joint = torch.bincount(pairs.flatten(), minlength=num_true * num_found).view(num_true, num_found)
    union = joint.sum(dim=1, keepdim=True) + joint.sum(dim=0) - joint - joint[0]
    iou = joint[1:, 1:].double() / union[1:, 1:].clamp(min=1)
    right = (true.labels.cpu()[:, None] == predicted.labels) & ~true.crowd.cpu()[:, None] & (iou > IOU)
    places = right.nonzero().tolist()
    return joint, [((t, p), int(predicted.labels[p]), float(iou[t, p])) for t, p in places]
