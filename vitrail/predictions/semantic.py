"""The class of every pixel of one image."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from vitrail.data.drawing import draw_map, indexed
from vitrail.predictions.pictures import blank


@dataclass(frozen=True, repr=False)
class Prediction:
    """The class of every pixel."""

    columns: ClassVar[tuple[str, ...]] = ("label", "share")
    classes: tuple[str, ...]
    map: NDArray[np.uint8]
    """(H, W), indices of ``classes``; 255 outside of the model's input."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the image."""
        return self.map.shape[0], self.map.shape[1]

    @property
    def shares(self) -> dict[str, float]:
        """How much of the image each class covers, of those that are there, the largest first."""
        counts = np.bincount(self.map.ravel(), minlength=256)[: len(self.classes)] / self.map.size
        order = np.argsort(-counts, kind="stable")
        return {self.classes[label]: float(counts[label]) for label in order if counts[label]}

    def rows(self) -> list[dict[str, Any]]:
        """A row a class that is there."""
        return [{"label": label, "share": f"{share:.6g}"} for label, share in self.shares.items()]

    def summary(self, top: int) -> dict[str, str]:
        """What covers most."""
        return {"shows": ", ".join(f"{label} {share:.1%}" for label, share in list(self.shares.items())[:top])}

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``size`` (height, width) and the ``shares`` of the classes."""
        return {"size": list(self.size), "shares": self.shares}

    def label_map(self) -> Image.Image:
        """As :meth:`to_png`."""
        return self.to_png()

    def to_png(self) -> Image.Image:
        """The map as a picture of mode P, whose pixels are the indices, in the colours of :meth:`draw`."""
        return indexed(self.map)

    def draw(self, image: Image.Image) -> Image.Image:
        """A copy of the image with its classes named below; the first one, the background, stays clear."""
        fitted = Image.fromarray(self.map).resize(image.size, Image.Resampling.NEAREST)
        return draw_map(image, np.asarray(fitted), self.classes)

    def __repr__(self) -> str:
        return f"<{self.summary(3)['shows']} of {self.size[0]}×{self.size[1]} pixels>"

    def _repr_png_(self) -> bytes:
        return blank(self.draw, self.size)
