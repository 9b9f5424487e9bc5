"""What attention needs of where the tokens are."""

from __future__ import annotations

from typing import TypeAlias

from vitrail.ops.relative import Cells, Offsets
from vitrail.ops.rope import Rotation

Positions: TypeAlias = Rotation | Offsets | Cells | None
"""A rotation, offsets, their grid, or nothing."""
