"""Results as plain JSON types."""

from __future__ import annotations

import math
from typing import Any, cast, overload

import numpy as np

from vitrail.files import Json


@overload
def plain(value: dict[str, Any]) -> dict[str, Json]: ...
@overload
def plain(value: object) -> Json: ...
def plain(value: object) -> Json:
    """numpy arrays and scalars as lists and numbers; NaN and infinity as null; floats to 6 significant digits."""
    if isinstance(value, dict):
        return {str(key): plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [plain(each) for each in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return cast("Json", value)
