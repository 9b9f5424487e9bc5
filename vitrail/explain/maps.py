"""What explanations return for one image: a number or a colour for each patch, and how it is drawn."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import numpy as np

COLOURS = "inferno"  # perceptually uniform: equal steps of heat look like equal steps of colour
OPACITY = (0.15, 0.75)  # of no heat and of the strongest
SATURATION = 0.97  # quantile, so that a few outliers do not hide all others
SOLID = 0.85  # opacity of colours, which leaves the edges of the picture visible


@dataclass(frozen=True)
class PatchMap(ABC):
    """An explanation of one image on its token grid (h, w).

    Attributes:
        title: names it among the maps of an image.
        values: float32 (h, w) or (h, w, channels).
        patch: the patch that it is about, counted row by row, if it is about one.
    """

    title: str
    values: np.ndarray
    patch: int | None = None

    @property
    @abstractmethod
    def planes(self) -> np.ndarray:
        """(h, w, channels) from 0 to 1, to be interpolated and then painted."""

    @abstractmethod
    def paint(self, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Interpolated planes (H, W, channels) → colours (H, W, 3) and their opacity (H, W, 1), from 0 to 1."""

    def __repr__(self) -> str:
        return f"<{self.title}: {'×'.join(map(str, self.values.shape[:2]))} patches>"

    def _repr_png_(self) -> bytes:
        from vitrail.explain.overlay import map_png

        return map_png(self)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return {"title": self.title, "values": self.values.tolist()}


@dataclass(frozen=True, repr=False)
class Heat(PatchMap):
    """How much each patch matters for one image.

    Attributes:
        values: (h, w), not negative, of no particular scale.
        limits: the values drawn as coldest and hottest; None: the least one and the 97th percentile.
    """

    limits: tuple[float, float] | None = None

    @property
    def planes(self) -> np.ndarray:
        """One channel."""
        return scaled(self.values, self.limits)[..., None]

    def paint(self, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The hotter, the more opaque."""
        from matplotlib import colormaps

        strength = planes.clip(0, 1)
        return colormaps[COLOURS](strength[..., 0])[..., :3], OPACITY[0] + (OPACITY[1] - OPACITY[0]) * strength

    def to_dict(self) -> dict[str, Any]:
        """With ``limits`` where they are given."""
        return super().to_dict() | ({} if self.limits is None else {"limits": list(self.limits)})


@dataclass(frozen=True, repr=False)
class Colours(PatchMap):
    """A colour for each patch; patches of similar colours are alike.

    Attributes:
        values: red, green, blue, (h, w, 3) from 0 to 1.
    """

    @property
    def planes(self) -> np.ndarray:
        """The colours as they are."""
        return self.values

    def paint(self, planes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """At the same opacity everywhere."""
        return planes.clip(0, 1), np.full((*planes.shape[:2], 1), SOLID, np.float32)


def limits_of(values: np.ndarray) -> tuple[float, float]:
    """The values of a heat map to draw as coldest and as hottest."""
    low, high = float(values.min()), float(np.quantile(values, SATURATION))
    return low, high if high > low else float(values.max())


def scaled(values: np.ndarray, limits: tuple[float, float] | None = None) -> np.ndarray:
    """Heat from 0 to 1 between the limits (default: :func:`limits_of`)."""
    low, high = limits_of(values) if limits is None else limits
    return ((values - low) / (high - low)).clip(0, 1) if high > low else np.zeros_like(values)
