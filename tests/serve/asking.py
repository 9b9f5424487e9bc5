"""What tests of a server send, and how they read its counters."""

from __future__ import annotations

import base64

from prometheus_client.parser import text_string_to_metric_families

TOLERANCE = 1e-5  # of probabilities and features between a batch and one image, in fp32
PNG = {"Content-Type": "image/png"}
JSON = {"Content-Type": "application/json"}


def b64(*images):
    return [base64.b64encode(image).decode() for image in images]


def files(*images):
    return [("images", (f"{i}.png", image, "image/png")) for i, image in enumerate(images)]


def counts(text):
    """Responses by (route, method, status)."""
    samples = [s for family in text_string_to_metric_families(text) for s in family.samples]
    return {
        (s.labels["route"], s.labels["method"], int(s.labels["status"])): s.value
        for s in samples
        if s.name == "vitrail_responses_total"
    }
