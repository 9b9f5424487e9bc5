"""Objects found in one image, and the file formats of other tools for them."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from PIL import Image

from vitrail.data.drawing import draw_objects, indexed
from vitrail.errors import UserError
from vitrail.ops import rle
from vitrail.predictions.pictures import blank

if TYPE_CHECKING:
    import supervision
    from numpy.typing import NDArray

MOST_COLOURS = 255  # classes that a map tells apart


@dataclass(frozen=True, repr=False)
class Prediction:
    """The objects of one image, best score first."""

    columns: ClassVar[tuple[str, ...]] = ("label", "score", "left", "top", "right", "bottom")
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    """(n,), indices of ``classes``."""
    scores: NDArray[np.float32]
    """(n,), in [0, 1]."""
    boxes_xyxy: NDArray[np.float32]
    """(n, 4), pixels of an image of ``size``."""
    size: tuple[int, int]
    """(height, width) of the image that the boxes are on."""
    masks: NDArray[np.bool_] | None = None
    """(n, H, W), the pixels of each object on an image of ``size``; None where only boxes are known."""

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def names(self) -> list[str]:
        """The class of each object."""
        return [self.classes[label] for label in self.labels]

    def over(self, threshold: float) -> Prediction:
        """The objects whose score is at least ``threshold``."""
        return self._only(self.scores >= threshold)

    def rows(self) -> list[dict[str, Any]]:
        """A row an object: its class, score and sides in pixels."""
        values = zip(self.names, self.scores.tolist(), self.boxes_xyxy.tolist(), strict=True)
        return [
            dict(zip(self.columns, (label, f"{score:.6g}", *(f"{side:.2f}" for side in box)), strict=True))
            for label, score, box in values
        ]

    def summary(self, top: int) -> dict[str, str]:
        """How many objects, and those with the best scores."""
        best = zip(self.names[:top], self.scores.tolist(), strict=False)
        return {"objects": str(len(self)), "surest": ", ".join(f"{label} {score:.1%}" for label, score in best)}

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``size`` (height, width) and ``objects``, each with ``label``, ``score`` and ``box_xyxy`` in pixels."""
        rows = zip(self.names, self.scores.tolist(), self.boxes_xyxy.tolist(), strict=True)
        objects = [{"label": label, "score": score, "box_xyxy": box} for label, score, box in rows]
        return {"size": list(self.size), "objects": objects}

    def draw(self, image: Image.Image) -> Image.Image:
        """A copy of the image with a frame around each object, its mask, its class and its score."""
        scale = np.array([image.width / self.size[1], image.height / self.size[0]] * 2)
        boxes, labels, scores = self.boxes_xyxy * scale, self.labels.tolist(), self.scores.tolist()
        return draw_objects(image, boxes, labels, self.classes, scores=scores, masks=self.masks)

    def __repr__(self) -> str:
        best = ", ".join(f"{label} {score:.1%}" for label, score in zip(self.names[:3], self.scores, strict=False))
        return f"<{len(self)} objects{': ' if best else ''}{best}>"

    def _repr_png_(self) -> bytes:
        return blank(self.draw, self.size)

    def label_map(self) -> Image.Image | None:
        """The masks as one picture of mode P in the colours of their classes; 0 where there is none, and the best
        score on top."""
        if self.masks is None:
            return None
        numbers = np.zeros(self.size, np.uint8)
        for label, mask in zip(self.labels[::-1], self.masks[::-1], strict=True):
            numbers[mask] = 1 + label % MOST_COLOURS
        return indexed(numbers, first=1)

    def to_coco(self, image_id: int | str = 0, category_ids: Sequence[int] | None = None) -> list[dict[str, Any]]:
        """COCO's result format: one dict an object, ``bbox`` as left, top, width, height, masks as run lengths.

        Args:
            category_ids: COCO's number of each class; default: its index.
        """
        start, end = self.boxes_xyxy[:, :2], self.boxes_xyxy[:, 2:]
        boxes = np.concatenate((start, end - start), axis=1).tolist()
        ids = range(len(self.classes)) if category_ids is None else category_ids
        rows = zip(self.labels.tolist(), self.scores.tolist(), boxes, strict=True)
        found: list[dict[str, Any]] = [
            {"image_id": image_id, "category_id": ids[label], "bbox": box, "score": score} for label, score, box in rows
        ]
        for entry, mask in zip(found, () if self.masks is None else self.masks, strict=self.masks is not None):
            entry |= {"segmentation": rle.compressed(mask), "area": int(mask.sum())}
        return found

    def to_yolo(self) -> str:
        """YOLO's text: a line an object, ``class centre_x centre_y width height score``, as shares of the image."""
        shares = self.boxes_xyxy / np.array([self.size[1], self.size[0]] * 2, dtype=np.float32)
        start, end = shares[:, :2], shares[:, 2:]
        numbers = np.concatenate(((start + end) / 2, end - start, self.scores[:, None]), axis=1)
        lines = (
            " ".join([str(label), *(f"{number:.6f}" for number in row)])
            for label, row in zip(self.labels.tolist(), numbers.tolist(), strict=True)
        )
        return "".join(f"{line}\n" for line in lines)

    def to_csv(self, path: str = "") -> str:
        """A header and a row an object: ``path, label, score, left, top, right, bottom``."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(["path", *self.columns])
        writer.writerows([path, *row.values()] for row in self.rows())
        return text.getvalue()

    def to_supervision(self) -> supervision.Detections:
        """A ``supervision.Detections``.

        Raises:
            UserError: supervision is not installed.
        """
        try:
            import supervision
        except ImportError:
            raise UserError("this makes an object of the library supervision; run: pip install supervision") from None
        return supervision.Detections(
            xyxy=self.boxes_xyxy,
            confidence=self.scores,
            class_id=self.labels.astype(int),
            mask=self.masks,
            data={"class_name": np.array(self.names, dtype=str)},
        )

    def _only(self, rows: NDArray[Any]) -> Prediction:
        """Some of the objects."""
        masks = None if self.masks is None else self.masks[rows]
        kept = {name: getattr(self, name)[rows] for name in ("labels", "scores", "boxes_xyxy")}
        return dataclasses.replace(self, **kept, masks=masks)
