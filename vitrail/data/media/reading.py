"""How files are read that say less than a photo: which values are black and white, and which page is meant."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from vitrail.config import config
from vitrail.errors import UserError


def _ascending(span: tuple[float, float] | None) -> tuple[float, float] | None:
    if span is not None and not span[0] < span[1]:
        raise ValueError(f"{span[0]:g} to {span[1]:g} is no range; give the lower value first")
    return span


ValueRange = Annotated[tuple[float, float], AfterValidator(_ascending)]


@config
class Reading:
    """How images of more than 8 bits and of several pages become pixels; weights files keep it.

    Attributes:
        value_range: the values of 16-bit, 32-bit and floating-point samples that become 0 and 255, such as (0, 4095)
            for 12-bit data in 16-bit files, or the window of a DICOM image in its own units; None: all 16 bits, and of
            DICOM the window that the file states.
        page: of a TIFF or DICOM file, from 0 on; None: the first, and a TIFF of several is warned of.
    """

    value_range: ValueRange | None = None
    page: Annotated[int, Field(ge=0)] | None = None


DEFAULT = Reading()


def read_range(text: str) -> tuple[float, float]:
    """``0:4095`` as (0, 4095).

    Raises:
        UserError: anything else.
    """
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise UserError(f"{text!r} is no range of values; write it as 0:4095") from None
