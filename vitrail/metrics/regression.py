"""Numbers: mean absolute error, root mean squared error, coefficient of determination."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from vitrail.metrics import Headline, rows
from vitrail.metrics import VectorMetrics as Base


class Metrics(Base):
    """From values (B, K) and targets (B, K), both in the targets' own units.

    ``compute()`` gives ``loss`` (mean squared error in units of ``scale``), ``mae``, ``rmse`` and ``r2``, each the
    mean over the target columns; ``r2`` leaves out a column that never varies, where it is undefined.

    Args:
        scale: of each target column, e.g. the standard deviation that training divides by; default: 1.
    """

    scalars = ("loss", "mae", "rmse", "r2")
    headlines: ClassVar[dict[str, Headline]] = {
        "mae": Headline("mean absolute error", "{:.4g}"),
        "rmse": Headline("root mean squared error", "{:.4g}"),
        "r2": Headline("R²", "{:.4f}"),
        "loss": Headline("loss (squared error, scaled)", "{:.4g}"),
    }

    def __init__(self, names: Sequence[str], scale: Sequence[float] | None = None) -> None:
        super().__init__(names)
        self.scale = torch.tensor(scale or [1.0] * len(self.names), dtype=torch.float64)

    def compute(self) -> dict[str, float]:
        mae, mse, r2 = self._per_target()
        return {
            "loss": (mse / self.scale.square()).mean().item(),
            "mae": mae.mean().item(),
            "rmse": mse.sqrt().mean().item(),
            "r2": r2.nanmean().item(),
        }

    def details(self) -> dict[str, Any]:
        """``targets``: one row per target column with its name, mae, rmse and r2."""
        mae, mse, r2 = self._per_target()
        return {"targets": rows(self.names, mae=mae, rmse=mse.sqrt(), r2=r2)}

    def _per_target(self) -> tuple[Tensor, Tensor, Tensor]:
        values, targets = self._collected()
        targets = targets.double().view_as(values)
        error = values - targets
        spread = (targets - targets.mean(dim=0)).square().sum(dim=0)
        r2 = 1 - error.square().sum(dim=0) / spread.where(spread > 0, float("nan"))
        return error.abs().mean(dim=0), error.square().mean(dim=0), r2
