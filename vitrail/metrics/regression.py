"""Numbers: mean absolute error, root mean squared error, coefficient of determination."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from vitrail.metrics import Metrics as Base
from vitrail.metrics import rows


class Metrics(Base):
    """From values (B, K) and targets (B, K), both in the targets' own units.

    ``compute()`` gives ``loss`` (mean squared error), ``mae``, ``rmse`` and ``r2``, each the mean over the
    target columns; ``r2`` leaves out a column that never varies, where it is undefined.
    """

    def compute(self) -> dict[str, float]:
        mae, mse, r2 = self._per_target()
        return {
            "loss": mse.mean().item(),
            "mae": mae.mean().item(),
            "rmse": mse.sqrt().mean().item(),
            "r2": r2.nanmean().item(),
        }

    def details(self) -> dict[str, Any]:
        """``targets``: one row a target column with its name, mae, rmse and r2."""
        mae, mse, r2 = self._per_target()
        return {"targets": rows(self.names, mae=mae, rmse=mse.sqrt(), r2=r2)}

    def _per_target(self) -> tuple[Tensor, Tensor, Tensor]:
        values, targets = self._collected()
        targets = targets.double().view_as(values)
        error = values - targets
        spread = (targets - targets.mean(dim=0)).square().sum(dim=0)
        r2 = 1 - error.square().sum(dim=0) / spread.where(spread > 0, float("nan"))
        return error.abs().mean(dim=0), error.square().mean(dim=0), r2
