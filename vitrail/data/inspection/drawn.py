"""``vitrail data inspect``: samples with their targets drawn on them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL import Image

from vitrail.data.media.decode import BadImage, decode
from vitrail.data.media.reading import DEFAULT, Reading
from vitrail.data.media.samples import viewable
from vitrail.data.source import Source
from vitrail.errors import UserError


def drawn(source: Source, limit: int | None = None, reading: Reading = DEFAULT) -> Iterator[tuple[str, Image.Image]]:
    """(name, picture) of up to ``limit`` evenly spaced samples.

    Raises:
        UserError: a sample that cannot be read, or has a channel count that no picture has.
    """
    count = len(source) if limit is None else min(limit, len(source))
    for index in np.linspace(0, len(source) - 1, count).astype(int).tolist():
        try:
            yield source.name(index), draw(source, index, reading)
        except BadImage as error:
            raise error.named(source.name(index)) from None


def draw(source: Source, index: int, reading: Reading = DEFAULT) -> Image.Image:
    """The picture at ``index`` with its target; where that is not spatial, the picture alone.

    Raises:
        BadImage: it cannot be read.
    """
    image = decode(source.read(index), 3 if source.channels in (None, 1, 3) else source.channels, reading=reading)
    if not isinstance(image, Image.Image):
        raise UserError(f"{source.name(index)} has {len(image)} channels and cannot be drawn; choose other data")
    kind = source.target_kind
    return kind.draw(viewable(image), kind.read(source.targets, index), source.classes)
