"""Objects with masks: matched and wrong detections and missed objects, as of detection."""

from __future__ import annotations

from dataclasses import replace

from vitrail.report.families import Headline, detection

HEADLINES = {
    "mask_ap": Headline("AP of masks, mean of IoU 0.50 … 0.95", "{:.4f}"),
    "mask_ap50": Headline("AP of masks at IoU 0.50", "{:.4f}"),
    **detection.HEADLINES,
}
FAMILY = replace(detection.FAMILY, headlines=HEADLINES)
