"""The quality of features without training on them: their spread, rank, and nearest neighbours."""

from __future__ import annotations

from functools import cached_property
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn.functional import normalize

from vitrail.metrics import Headline
from vitrail.metrics import VectorMetrics as Base
from vitrail.ops.neighbours import vote

NEIGHBOURS, TEMPERATURE = 20, 0.07  # of DINO's evaluation (Caron et al. 2021)


class Metrics(Base):
    """Features (B, D); class labels (B,) where there are any, else -1."""

    scalars = ("knn", "feature_std", "rank")
    headlines: ClassVar[dict[str, Headline]] = {
        "knn": Headline("accuracy of the 20 nearest neighbours", "{:.2%}"),
        "feature_std": Headline("spread of the features (1: even, 0: collapsed)", "{:.3f}"),
        "rank": Headline("effective rank of the features", "{:.1f}"),
    }

    def __init__(self) -> None:
        super().__init__(())

    def compute(self) -> dict[str, float]:
        """``knn``, the leave-one-out accuracy (NaN without labels), ``feature_std``, ``rank``."""
        features, labels = torch.cat(self._outputs), torch.cat(self._targets)
        knn = float("nan") if self.votes is None else float((self.votes.argmax(1) == labels).double().mean())
        return {"knn": knn, "feature_std": float(feature_std(features.double())), "rank": effective_rank(features)}

    def details(self) -> dict[str, Any]:
        """Nothing."""
        return {}

    @cached_property
    def votes(self) -> Tensor | None:
        """The votes of the nearest other images for each class, (N, K), which sum to 1; None without class labels."""
        features, labels = torch.cat(self._outputs), torch.cat(self._targets)
        if labels.ndim != 1 or labels.is_floating_point() or bool((labels < 0).any()) or len(labels) < 2:
            return None
        count = min(NEIGHBOURS, len(labels) - 1)
        return vote(features, labels, features, int(labels.max()) + 1, count, TEMPERATURE, leave_one_out=True)


def feature_std(features: Tensor) -> Tensor:
    """√D × the mean over dimensions of the standard deviation of features (B, D) of length 1: 1 if they spread evenly
    over the sphere, 0 if they collapsed to a point (Chen & He 2021, SimSiam, figure 2); NaN for one alone."""
    if len(features) < 2:
        return features.new_tensor(torch.nan)
    return normalize(features, dim=1).std(dim=0).mean() * features.shape[1] ** 0.5


def effective_rank(features: Tensor) -> float:
    """RankMe: exp of the entropy of the normalised singular values (Garrido et al. 2023, equation 1), 1 … D."""
    values = torch.linalg.svdvals(features.double())
    shares = values / values.sum() + 1e-7
    return float(torch.exp(-(shares * shares.log()).sum()))
