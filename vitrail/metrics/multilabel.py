"""Any number of labels per image: average precision, precision, recall and F1 at a probability of 0.5."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from vitrail.metrics import Headline, f1_score, ratio, rows
from vitrail.metrics import VectorMetrics as Base
from vitrail.ops.ranking import auroc, average_precision, of_each_class


class Metrics(Base):
    """From logits (B, K) and multi-hot targets (B, K); a soft target above 0.5 counts as present.

    ``compute()`` gives ``loss`` (binary cross-entropy in nats), ``map`` (mean AP of the classes that have
    examples), ``auroc`` (the mean of the classes that some images have and others lack), macro ``precision``,
    ``recall`` and ``f1``, ``f1_micro``, and ``exact`` (every label right).
    """

    scalars = ("loss", "map", "auroc", "precision", "recall", "f1", "f1_micro", "exact")
    headlines: ClassVar[dict[str, Headline]] = {
        "map": Headline("mean average precision", "{:.4f}"),
        "auroc": Headline("mean AUROC", "{:.4f}"),
        "f1": Headline("macro F1 at 0.5", "{:.4f}"),
        "f1_micro": Headline("micro F1 at 0.5", "{:.4f}"),
        "exact": Headline("all labels right", "{:.2%}"),
        "precision": Headline("macro precision", "{:.4f}"),
        "recall": Headline("macro recall", "{:.4f}"),
        "loss": Headline("loss (nats)", "{:.4f}"),
    }

    def compute(self) -> dict[str, float]:
        logits, targets = self._collected()
        precision, recall, _ = self._per_class(logits, targets)
        chosen, present = self._predicted(logits), targets > 0.5
        hits = (chosen & present).sum()
        return {
            "loss": F.binary_cross_entropy_with_logits(logits, targets.double()).item(),
            "map": self._average_precision(logits, targets).nanmean().item(),
            "auroc": of_each_class(auroc, logits, present).nanmean().item(),
            "precision": precision.mean().item(),
            "recall": recall.mean().item(),
            "f1": f1_score(precision, recall).mean().item(),
            "f1_micro": ratio(2 * hits, chosen.sum() + present.sum()).item(),
            "exact": (chosen == present).all(dim=1).double().mean().item(),
        }

    def details(self) -> dict[str, Any]:
        """``classes``: one row per class with its name, ap, precision, recall, f1 and support."""
        logits, targets = self._collected()
        precision, recall, support = self._per_class(logits, targets)
        ap, f1 = self._average_precision(logits, targets), f1_score(precision, recall)
        return {
            "classes": rows(self.names, ap=ap, precision=precision, recall=recall, f1=f1, support=support),
        }

    def _per_class(self, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        chosen, present = self._predicted(logits), targets > 0.5
        hits, support = (chosen & present).sum(dim=0), present.sum(dim=0)
        return ratio(hits, chosen.sum(dim=0)), ratio(hits, support), support

    def _predicted(self, logits: Tensor) -> Tensor:
        """Which labels are predicted, bool (B, K)."""
        return logits > 0 if self.chosen is None else logits.sigmoid() >= self.chosen

    def _average_precision(self, logits: Tensor, targets: Tensor) -> Tensor:
        return of_each_class(average_precision, logits, targets > 0.5)


def precision_recall_curve(scores: Tensor, present: Tensor) -> tuple[Tensor, Tensor]:
    """Precision and recall at every distinct score, from the highest down; equal scores fall together.

    Args:
        scores: (B,), any monotone function of the probability.
        present: (B,) bool.
    """
    scores, order = scores.sort(descending=True)
    hits = present[order].double().cumsum(dim=0)
    distinct = torch.cat([scores[1:] != scores[:-1], torch.ones(1, dtype=torch.bool)])
    chosen = torch.arange(1, len(scores) + 1, dtype=torch.float64)
    return (hits / chosen)[distinct], (hits / hits[-1])[distinct]
