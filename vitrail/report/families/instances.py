"""Objects with masks: matched and wrong detections and missed objects, as of detection."""

from __future__ import annotations

from dataclasses import replace

from vitrail.metrics.instances import Metrics
from vitrail.report.families import detection

FAMILY = replace(detection.FAMILY, headlines=Metrics.headlines)
