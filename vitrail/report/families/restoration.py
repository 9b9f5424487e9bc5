"""Restored pictures, beside bicubic enlargement."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from vitrail.metrics.restoration import Metrics
from vitrail.report.families import Caption, Columns, Family, Figures
from vitrail.report.language import say

if TYPE_CHECKING:
    from vitrail.evaluation import Evaluation

CROP = 96  # pixels of a part that is shown
HEIGHT = 240  # pixels of a strip


def columns(evaluation: Evaluation) -> Columns:
    """PSNR and SSIM of the luma of each picture, and what it lost against bicubic enlargement as the loss."""
    pictures = evaluation.details["pictures"]
    shown = ("psnr_y", "bicubic_psnr_y", "ssim_y", "bicubic_ssim_y", "psnr", "ssim")
    found: Columns = {name: [each[name] for each in pictures] for name in shown}
    return found | {"loss": [each["bicubic_psnr_y"] - each["psnr_y"] for each in pictures]}


def caption(evaluation: Evaluation, row: int) -> Caption:
    """PSNR of bicubic enlargement and of the restored picture."""
    measures = evaluation.details["pictures"][row]
    ours, theirs = measures["psnr_y"], measures["bicubic_psnr_y"]
    texts = say("bicubic {value} dB", value=f"{theirs:.2f}"), say("restored {value} dB", value=f"{ours:.2f}")
    return Caption(*texts, f"{ours - theirs:+.2f} dB", ours > theirs)


def drawn(evaluation: Evaluation, row: int, picture: Image.Image) -> Image.Image:
    """The part where the bicubic picture is furthest from the true one: bicubic, restored, true."""
    from vitrail.report.pictures import beside, from_planes

    restored, bicubic = np.asarray(evaluation.outputs[row])
    truth = np.asarray(evaluation.targets[row])
    part = hardest(np.abs(bicubic.astype(np.float32) - truth).mean(axis=0))
    panels = (from_planes(each[:, part[0], part[1]]).convert("RGB") for each in (bicubic, restored, truth))
    return beside([each.resize((HEIGHT, HEIGHT), Image.Resampling.NEAREST) for each in panels], HEIGHT)


def figures(evaluation: Evaluation) -> Figures:
    """PSNR of each picture against that of bicubic enlargement."""
    from vitrail.report.figures import numbers

    pictures = evaluation.details["pictures"]
    ours, theirs = (np.array([[each[name]] for each in pictures]) for name in ("psnr_y", "bicubic_psnr_y"))
    axes = say("bicubic"), say("restored")
    figure = numbers.predicted_against_true(ours, theirs, (say("PSNR of the luma (dB)"),), axes)
    return {"Pictures": {"gain": figure}}


def hardest(error: np.ndarray) -> tuple[slice, slice]:
    """Rows and columns of a square with the largest mean of (H, W)."""
    side = min(CROP, *error.shape)
    sums = np.pad(error, ((1, 0), (1, 0))).cumsum(axis=0, dtype=np.float64).cumsum(axis=1)
    total = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = (int(each) for each in np.unravel_index(int(total.argmax()), total.shape))
    return slice(top, top + side), slice(left, left + side)


FAMILY = Family(Metrics.headlines, columns, caption, figures, drawn)
