"""The loss of a generative model on held-out images, by how noisy they were."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.metrics import Headline, Rows
from vitrail.metrics import Metrics as Base

BUCKETS = ("noisy", "half", "clear")
"""Thirds of the way from noise to an image."""


class Metrics(Base):
    """Rows (N, 2): the time of each image from 0 (noise) to 1, and its loss. There are no targets."""

    scalars = ("loss", *(f"loss_{name}" for name in BUCKETS))
    headlines: ClassVar[dict[str, Headline]] = {
        "loss": Headline("loss", "{:.4f}"),
        "loss_noisy": Headline("loss where there is mostly noise", "{:.4f}"),
        "loss_half": Headline("loss halfway", "{:.4f}"),
        "loss_clear": Headline("loss where there is little noise", "{:.4f}"),
    }

    def __init__(self, names: Sequence[str] = ()) -> None:
        super().__init__(names)
        self._rows: list[Tensor] = []

    def update(self, rows: Rows, targets: Rows) -> None:
        """Add images."""
        assert isinstance(rows, Tensor), f"rows are a tensor, not a {type(rows).__name__}"
        self._rows.append(rows.detach().cpu().double())

    def compute(self) -> dict[str, float]:
        """``loss``, and of each bucket (NaN where no image fell into it)."""
        times, losses = torch.cat(self._rows).unbind(dim=1)
        places = (times * len(BUCKETS)).long().clamp(max=len(BUCKETS) - 1)
        found = {f"loss_{name}": float(losses[places == place].mean()) for place, name in enumerate(BUCKETS)}
        return {"loss": float(losses.mean()), **found}

    def details(self) -> dict[str, Any]:
        """``times`` and ``losses``, (N,) each."""
        times, losses = torch.cat(self._rows).unbind(dim=1)
        return {"times": times.numpy(), "losses": losses.numpy()}
