"""Restored pictures: PSNR and SSIM on luma and on colours, beside those of bicubic enlargement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.metrics import Headline, Rows
from vitrail.metrics import Metrics as Base
from vitrail.ops.picture_quality import cropped, is_grey, luma, psnr, ssim

BASELINE = "bicubic_"
MEASURES = ("psnr_y", "ssim_y", "psnr", "ssim")


@dataclass(frozen=True)
class Conventions:
    """How pictures are compared; every number of an evaluation is stored with them.

    Attributes:
        border: pixels that are left out at each edge.
        luma: what ``_y`` measures; a picture without colours is measured as it is.
        rounding: of the restored picture before it is measured.
        peak: the value of white.
    """

    border: int
    luma: str = "Y of BT.601, studio range 16 to 235; grey pictures as they are"
    rounding: str = "to 8 bits"
    peak: int = 255


class Metrics(Base):
    """From pairs of restored and bicubic pictures, uint8 (2, C, H, W), and true pictures uint8 (C, H, W).

    ``compute()`` gives ``psnr_y`` in dB and ``ssim_y`` of the luma, ``psnr`` and ``ssim`` of all channels, each the
    mean over pictures, and the same of bicubic enlargement as ``bicubic_psnr_y`` and so on.

    Args:
        border: pixels that are left out at each edge; publications leave out as many as the scale.
    """

    scalars = (*MEASURES, *(BASELINE + name for name in MEASURES))
    decibels: ClassVar[frozenset[str]] = frozenset(name for name in scalars if "psnr" in name)
    headlines: ClassVar[dict[str, Headline]] = {
        "psnr_y": Headline("PSNR of the luma (dB)", "{:.2f}"),
        "bicubic_psnr_y": Headline("the same of bicubic enlargement (dB)", "{:.2f}"),
        "ssim_y": Headline("SSIM of the luma", "{:.4f}"),
        "bicubic_ssim_y": Headline("the same of bicubic enlargement", "{:.4f}"),
        "psnr": Headline("PSNR of the colours (dB)", "{:.2f}"),
        "bicubic_psnr": Headline("colours of bicubic enlargement (dB)", "{:.2f}"),
        "ssim": Headline("SSIM of the colours", "{:.4f}"),
        "bicubic_ssim": Headline("SSIM of the colours, bicubic", "{:.4f}"),
    }

    def __init__(self, names: Sequence[str], border: int = 0) -> None:
        super().__init__(names)
        self.conventions = Conventions(border)
        self._pictures: list[dict[str, float]] = []

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add pictures."""
        for both, truth in zip(rows, targets, strict=True):
            restored, bicubic = cast("Tensor", both).cpu()
            true = torch.as_tensor(truth).cpu()
            self._pictures.append(self.measured(restored, true) | self.measured(bicubic, true, BASELINE))

    def measured(self, picture: Tensor, truth: Tensor, prefix: str = "") -> dict[str, float]:
        """The measures of one picture, by name."""
        one, other = (cropped(each, self.conventions.border) for each in (picture, truth))
        ours, true = luminances(one, other)
        values = psnr(ours, true), ssim(ours, true), psnr(one, other), ssim(one, other)
        return {prefix + name: value for name, value in zip(MEASURES, values, strict=True)}

    def compute(self) -> dict[str, float]:
        assert self._pictures, "compute() before the first update()"
        found = {name: np.array([each[name] for each in self._pictures]) for name in self.scalars}
        return {
            name: float(np.nanmean(values)) if not np.isnan(values).all() else float("nan")
            for name, values in found.items()
        }

    def details(self) -> dict[str, Any]:
        """``pictures``: the measures of each; ``conventions``: how they were taken."""
        return {"pictures": self._pictures, "conventions": vars(self.conventions)}


def luminances(picture: Tensor, truth: Tensor) -> tuple[Tensor, Tensor]:
    """What ``_y`` compares: luma, or of grey truth the grey levels, where colours of the picture are averaged."""
    if len(truth) == 1 or is_grey(truth):
        return picture.double().mean(dim=0).round(), truth[0]
    return luma(picture), luma(truth)
