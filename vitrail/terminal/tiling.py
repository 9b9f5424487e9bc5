"""Options of verbs that can predict a picture tile by tile."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from vitrail.errors import UserError
from vitrail.terminal.options import read_size

if TYPE_CHECKING:
    from vitrail.predictor import Predictor

WHOLE = "none"  # the size of tiles that stands for the picture as it is


@Parameter(name="*")
@dataclass(frozen=True)
class Tiling:
    """Which tiles, if any."""

    tile: Annotated[
        str | None,
        Parameter(
            metavar="640 | 480x640",
            help="Predict large pictures by overlapping tiles of this many pixels, height x width, and merge what they "
            "show; none: the picture as a whole. Default: as the model was trained.",
        ),
    ] = None
    overlap: Annotated[float | None, Parameter(help="Share of a tile that its neighbours show too; default: 0.2.")] = (
        None
    )

    def applied(self, predictor: Predictor[Any]) -> Predictor[Any]:
        """The model, predicting so; what it does is printed.

        Raises:
            UserError: an overlap without tiles, or a model that cannot predict by them.
        """
        from vitrail.console import note

        own = predictor.preprocess.config.tiles
        size = None if own is None else own.size
        if self.tile is not None:
            size = _size(self.tile)
        if self.overlap is not None:
            if size is None:
                raise UserError("--overlap is that of tiles; give --tile too, in pixels")
            predictor = predictor.tiled(size, self.overlap)
        elif self.tile is not None:
            predictor = predictor.tiled(size)
        if (tiles := predictor.preprocess.config.tiles) is not None:
            height, width = predictor.preprocess.config.size
            why = "" if tiles != own else ", as in training"
            note(f"tiles of {tiles}, each shown to the model as {height} × {width}, merged{why}")
        return predictor

    @property
    def suffix(self) -> str:
        """Of the names of files, so that the results of other tiles stay."""
        parts = {"tile": self.tile, "overlap": self.overlap}
        return "".join(f"-{name}{value}" for name, value in parts.items() if value is not None)


def tile_settings(text: str) -> dict[str, object]:
    """What ``--tile`` of a training sets."""
    size = _size(text)
    return {"data.preprocess.tiles": None} if size is None else {"data.preprocess.tiles.size": list(size)}


def _size(text: str) -> tuple[int, int] | None:
    return None if text == WHOLE else read_size(text)
