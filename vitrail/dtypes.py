"""Names of the precisions that autocast supports; ``fp32`` is the absence of autocast."""

from __future__ import annotations

import torch

AUTOCAST_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}
