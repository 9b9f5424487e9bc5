"""Pictures that a generative model draws."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.errors import UserError
from vitrail.serve.jobs import Job

if TYPE_CHECKING:
    from vitrail.generator import Drawn
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Draw(Job[bytes]):
    """A PNG file of each key; in place of pixels there are keys, uint8 (B, 8).

    Attributes:
        label: the class; None: none.
        steps, guidance: of the sampler; None: as in the file.
    """

    label: str | None
    steps: int | None
    guidance: float | None

    def run(self, predictor: Predictor, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[bytes]:
        """As :meth:`Job.run`."""
        from vitrail.generate import Generative
        from vitrail.generator import Generator

        if not isinstance(predictor.task, Generative):
            raise UserError(
                f"a model of {predictor.task.name!r} draws no pictures; ask one that --task generation trained"
            )
        generator = Generator(predictor.task, predictor.preprocess.config, device=predictor.device)
        keys = pixels.numpy().view(np.int64)[:, 0].tolist()
        sampler = generator.sampler(steps=self.steps, guidance=self.guidance)
        drawn: list[Drawn] = generator.draw_keys([self.label] * len(keys), keys, sampler)
        return [each.png_bytes() for each in drawn]


def keyed(keys: np.ndarray) -> list[tuple[np.ndarray, ImageGeometry]]:
    """Keys uint64 (B,) in the form of images."""
    return [(key.view(np.uint8), ImageGeometry.identity((1, 8))) for key in keys.reshape(-1, 1)]
