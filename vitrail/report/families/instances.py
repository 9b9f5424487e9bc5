"""Objects with masks: what was found, wrong or missed, as of detection."""

from __future__ import annotations

from vitrail.report.families import Headline
from vitrail.report.families.detection import HEADLINES as OF_BOXES
from vitrail.report.families.detection import caption, columns, drawn, figures

__all__ = ["HEADLINES", "caption", "columns", "drawn", "figures"]

HEADLINES = {
    "mask_ap": Headline("AP of masks, mean of IoU 0.50 … 0.95", "{:.4f}"),
    "mask_ap50": Headline("AP of masks at IoU 0.50", "{:.4f}"),
    **OF_BOXES,
}
