"""Options of verbs that read images of more than 8 bits or several pages with a model that is trained already."""

from __future__ import annotations

import copy
import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cyclopts import Parameter

from vitrail.terminal.options import MaxPixels, Page, ValueRange

if TYPE_CHECKING:
    from vitrail.predictor import Predictor


@Parameter(name="*")
@dataclass(frozen=True)
class ReadingOptions:
    """What to read of an image, where it is not as in training."""

    value_range: ValueRange = None
    page: Page = None
    max_pixels: MaxPixels = None

    def applied(self, predictor: Predictor[Any]) -> Predictor[Any]:
        """The model, reading so; the model itself where nothing is given.

        Raises:
            UserError: what is no range.
        """
        if self.value_range is None and self.page is None:
            return predictor
        from vitrail.config import override
        from vitrail.data.media.reading import read_range
        from vitrail.data.transforms.preprocess import Preprocess

        config = predictor.preprocess.config
        given: dict[str, object] = {} if self.page is None else {"page": self.page}
        if self.value_range is not None:
            given["value_range"] = list(read_range(self.value_range))
        other = copy.copy(predictor)
        other.preprocess = Preprocess(dataclasses.replace(config, reading=override(config.reading, given)))
        return other
