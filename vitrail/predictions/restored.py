"""A restored picture: larger, sharper or cleaner. Shapes: (H, W, C), levels from 0 to 65535."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from vitrail.data.media.originals import PLAIN, PictureForm, png_bytes
from vitrail.predictions.pictures import png

WHITE = 65535


@dataclass(frozen=True, repr=False)
class Prediction:
    """A restored picture."""

    columns: ClassVar[tuple[str, ...]] = ("width", "height", "scale")
    levels: NDArray[np.uint16]
    """(H, W, C), 0 to 65535."""
    scale: int = 1
    form: PictureForm = PLAIN
    """How it is stored: as the picture that it was made of."""

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.levels.shape[0], self.levels.shape[1]

    @property
    def image(self) -> Image.Image:
        """The picture with 8 bits a sample, and transparency where there was any."""
        return dataclasses.replace(self.form, bits=8).image(self.levels)

    def in_form(self, form: PictureForm) -> Prediction:
        """The same, stored as the picture that it was made of."""
        return dataclasses.replace(self, form=form.enlarged(self.scale))

    def png_bytes(self) -> bytes:
        """The picture as a PNG file, with 16 bits, transparency and ICC profile where the other one had them."""
        return png_bytes(self.levels, self.form)

    def rows(self) -> list[dict[str, Any]]:
        """One row."""
        return [{"width": self.size[1], "height": self.size[0], "scale": self.scale}]

    def summary(self, top: int) -> dict[str, str]:
        """The size."""
        larger = f", {self.scale} times as large" if self.scale > 1 else ""
        return {"picture": f"{self.size[1]} × {self.size[0]} pixels{larger}"}

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """``size`` (height, width), ``scale``, ``bits``, ``transparent``, and the ``mean`` level from 0 to 1."""
        return {
            "size": list(self.size),
            "scale": self.scale,
            "bits": self.form.bits,
            "transparent": self.form.alpha is not None,
            "mean": float(self.levels.mean() / WHITE),
        }

    def label_map(self) -> None:
        """None: pixels have colours and no values."""

    def draw(self, image: Image.Image) -> Image.Image:
        """The restored picture."""
        return self.image.convert("RGB")

    def __repr__(self) -> str:
        return f"<{self.summary(1)['picture']}, {self.levels.shape[2]} channels>"

    def _repr_png_(self) -> bytes:
        return png(self.image)


def levels_of(values: Tensor) -> NDArray[np.uint16]:
    """(C, H, W) from 0 to 1 → levels (H, W, C)."""
    exact = (values.detach().float().clamp(0, 1) * WHITE).round().cpu().permute(1, 2, 0).numpy()
    found: NDArray[np.uint16] = exact.astype(np.uint16)
    return found
