"""What models predict for one image: small frozen dataclasses that become JSON, pictures and text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol, runtime_checkable

from vitrail.registry import submodules

if TYPE_CHECKING:
    from PIL import Image

    from vitrail.data.media.originals import PictureForm


class Prediction(Protocol):
    """What a task predicts for one image."""

    def to_dict(self, top: int = 5) -> dict[str, Any]:
        """Plain JSON types.

        Args:
            top: how many classes to list, where they are ranked.
        """

    def draw(self, image: Image.Image) -> Image.Image:
        """A copy of the image with the prediction drawn on it."""

    def _repr_png_(self) -> bytes:
        """A picture for notebooks."""


@runtime_checkable
class RankedPrediction(Prediction, Protocol):
    """A prediction that ranks classes."""

    def top(self, k: int = 5) -> list[tuple[str, float]]:
        """The k most probable classes with their probabilities, best first."""


@runtime_checkable
class SpatialPrediction(Prediction, Protocol):
    """A prediction of what is where in an image: any number of rows, each with its place or extent.

    Attributes:
        columns: names of the values of a row.
        size: (height, width) of the image whose pixels the prediction is in.
    """

    columns: ClassVar[tuple[str, ...]]

    @property
    def size(self) -> tuple[int, int]: ...

    def rows(self) -> list[dict[str, Any]]:
        """What was found, a value per column."""

    def summary(self, top: int) -> dict[str, str]:
        """One line that names at most ``top`` classes or objects."""

    def label_map(self) -> Image.Image | None:
        """The values of all pixels as a picture of palette indices (classes) or grey levels (numbers), where 0 is shown
        as clear; None where the pixels have none, as of boxes."""


@runtime_checkable
class PicturePrediction(SpatialPrediction, Protocol):
    """A prediction that is a picture.

    Attributes:
        scale: how many times larger it is than the picture that it was made of.
    """

    @property
    def scale(self) -> int: ...

    def in_form(self, form: PictureForm) -> PicturePrediction:
        """The same, stored as the picture that it was made of."""

    def png_bytes(self) -> bytes:
        """The picture as a PNG file."""


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
