"""The smallest decoders that find objects."""

from __future__ import annotations

DETR = {"dim": 16, "depth": 1, "heads": 2, "mlp_dim": 16, "num_queries": 4}
DEFORMABLE = {**DETR, "reading_heads": 4, "groups": 2}
