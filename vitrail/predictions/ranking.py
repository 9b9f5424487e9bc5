"""Classes in the order of their probability."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray


def ranked(classes: Sequence[str], probabilities: NDArray[np.float32], k: int) -> list[tuple[str, float]]:
    """The k most probable classes with their probabilities, best first; among equals the lower index comes first."""
    best = np.argsort(-probabilities, kind="stable")[:k]
    return [(classes[i], float(probabilities[i])) for i in best]


def as_rows(pairs: Sequence[tuple[str, float]]) -> list[dict[str, Any]]:
    """Class names and probabilities as JSON objects."""
    return [{"label": label, "score": score} for label, score in pairs]
