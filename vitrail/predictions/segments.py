"""The segments of one image, and what other tasks call them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.drawing import indexed
from vitrail.data.segments import Segments, draw_segments
from vitrail.data.storage.segments import to_colours
from vitrail.errors import UserError
from vitrail.ops import boxes
from vitrail.ops.segmentation_losses import IGNORE
from vitrail.predictions import objects, semantic
from vitrail.predictions.pictures import blank


@dataclass(frozen=True, repr=False)
class Prediction:
    """The segments of one image, which do not overlap, best score first."""

    columns: ClassVar[tuple[str, ...]] = ("id", "label", "score", "thing", "share")
    classes: tuple[str, ...]
    things: tuple[bool, ...]
    """Of each class."""
    map: NDArray[np.int32]
    """(H, W): 0 where nothing is known, else the id of a segment, from 1 on in the order of ``labels``."""
    labels: NDArray[np.int64]
    """(n,), indices of ``classes``."""
    scores: NDArray[np.float32]
    """(n,), in [0, 1]."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.map.shape[0], self.map.shape[1]

    @property
    def segments(self) -> list[dict[str, Any]]:
        """``id``, ``label``, ``score``, ``is_thing`` and ``share`` of the image's pixels of each."""
        shares = np.bincount(self.map.ravel(), minlength=len(self) + 1)[1:] / max(self.map.size, 1)
        values = zip(self.labels.tolist(), self.scores.tolist(), shares.tolist(), strict=True)
        return [
            {"id": i, "label": self.classes[k], "score": score, "is_thing": self.things[k], "share": share}
            for i, (k, score, share) in enumerate(values, start=1)
        ]

    def rows(self) -> list[dict[str, Any]]:
        """A row a segment."""
        return [
            {
                "id": each["id"],
                "label": each["label"],
                "score": f"{each['score']:.6g}",
                "thing": int(each["is_thing"]),
                "share": f"{each['share']:.6g}",
            }
            for each in self.segments
        ]

    def summary(self, top: int) -> dict[str, str]:
        """How many segments, and those with the best scores."""
        best = ", ".join(f"{each['label']} {each['score']:.1%}" for each in self.segments[:top])
        return {"segments": str(len(self)), "surest": best}

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``size`` (height, width) and ``segments``."""
        return {"size": list(self.size), "segments": self.segments}

    def to_png(self) -> Image.Image:
        """The ids as COCO's panoptic PNG holds them: R + 256 G + 65536 B."""
        return to_colours(self.map)

    def label_map(self) -> Image.Image:
        """The classes of all pixels in their colours; 0 where nothing is known."""
        number_of = np.concatenate(([0], 1 + self.labels % objects.MOST_COLOURS)).astype(np.uint8)
        return indexed(number_of[self.map], first=1)

    def semantic(self) -> semantic.Prediction:
        """The class of every pixel; 255 where nothing is known.

        Raises:
            UserError: there are more classes than such a map can hold.
        """
        if len(self.classes) > IGNORE:
            raise UserError(f"a class map holds {IGNORE} classes, and the model has {len(self.classes)}")
        label_of = np.concatenate(([IGNORE], self.labels)).astype(np.uint8)
        return semantic.Prediction(self.classes, label_of[self.map])

    def instances(self) -> objects.Prediction:
        """The things, with the boxes of their masks."""
        own = np.flatnonzero(np.array(self.things, bool)[self.labels])
        masks = self.map == own[:, None, None] + 1
        edges = boxes.of_masks(torch.from_numpy(masks)).numpy()
        return objects.Prediction(self.classes, self.labels[own], self.scores[own], edges, self.size, masks)

    def draw(self, image: Image.Image) -> Image.Image:
        """A copy of the image with each segment, its class and its score."""
        crowd = torch.zeros(len(self), dtype=torch.bool)
        segments = Segments(torch.from_numpy(self.map), torch.from_numpy(self.labels), crowd)
        return draw_segments(image, segments, self.classes, self.scores.tolist())

    def __repr__(self) -> str:
        best = ", ".join(f"{each['label'][:20]} {each['score']:.1%}" for each in self.segments[:2])
        return f"<{len(self)} segments{': ' if best else ''}{best}>"

    def _repr_png_(self) -> bytes:
        return blank(self.draw, self.size)
