"""One label per image: accuracy, cross-entropy, precision and recall, the confusion matrix, calibration."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from vitrail.metrics import Headline, f1_score, ratio, rows
from vitrail.metrics import VectorMetrics as Base
from vitrail.ops.ranking import auroc, average_precision, of_each_class

CALIBRATION_BINS = 15


class Metrics(Base):
    """From logits (B, K) and targets: labels (B,), or soft (B, K), which count as their likeliest class.

    ``compute()`` gives ``loss`` (cross-entropy in nats, no smoothing), ``top1``, ``top5`` (top-min(5, K)),
    macro ``precision``, ``recall`` and ``f1`` (over the classes that occur as label or prediction), ``auroc`` and
    ``average_precision`` (each class against the others by its probability, the mean of the classes that occur as
    label) and ``ece``.
    """

    scalars = ("loss", "top1", "top5", "precision", "recall", "f1", "auroc", "average_precision", "ece")
    headlines: ClassVar[dict[str, Headline]] = {
        "top1": Headline("top-1 accuracy", "{:.2%}"),
        "top5": Headline("top-5 accuracy", "{:.2%}"),
        "f1": Headline("macro F1", "{:.4f}"),
        "precision": Headline("macro precision", "{:.4f}"),
        "recall": Headline("macro recall", "{:.4f}"),
        "auroc": Headline("mean AUROC", "{:.4f}"),
        "average_precision": Headline("mean average precision", "{:.4f}"),
        "loss": Headline("loss (nats)", "{:.4f}"),
        "ece": Headline("calibration error", "{:.4f}"),
    }

    def compute(self) -> dict[str, float]:
        logits, targets = self._collected()
        labels = hard_labels(targets)
        rank = label_rank(logits, labels)
        precision, recall, support, chosen = self._per_class(logits, labels)
        present = (support > 0) | (chosen > 0)
        ranking = logits.softmax(dim=1), labels[:, None] == torch.arange(logits.shape[1])
        return {
            "loss": cross_entropy(logits, targets).mean().item(),
            "top1": (rank < 1).double().mean().item(),
            "top5": (rank < 5).double().mean().item(),
            "precision": precision[present].mean().item(),
            "recall": recall[present].mean().item(),
            "f1": f1_score(precision, recall)[present].mean().item(),
            "auroc": of_each_class(auroc, *ranking).nanmean().item(),
            "average_precision": of_each_class(average_precision, *ranking).nanmean().item(),
            "ece": calibration_error(reliability(logits, labels)),
        }

    def details(self) -> dict[str, Any]:
        """``classes`` (rows), ``confusion`` counts (K, K) with true classes as rows, ``reliability``."""
        logits, targets = self._collected()
        labels = hard_labels(targets)
        precision, recall, support, _ = self._per_class(logits, labels)
        f1 = f1_score(precision, recall)
        return {
            "classes": rows(self.names, precision=precision, recall=recall, f1=f1, support=support),
            "confusion": confusion(labels, predicted(logits), len(self.names)).numpy(),
            "reliability": reliability(logits, labels),
        }

    def _per_class(self, logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Precision, recall, images of the class, predictions of the class (each K)."""
        predictions = predicted(logits)
        support, chosen, correct = (
            torch.bincount(classes, minlength=len(self.names))
            for classes in (labels, predictions, labels[predictions == labels])
        )
        return ratio(correct, chosen), ratio(correct, support), support, chosen


def hard_labels(targets: Tensor) -> Tensor:
    """Class indices (B,) of labels (B,) or soft targets (B, K)."""
    return targets.argmax(dim=1) if targets.ndim == 2 else targets.long()


def predicted(logits: Tensor) -> Tensor:
    """The likeliest class (B,); among equals the first."""
    return torch.from_numpy(logits.numpy().argmax(axis=1))


def label_rank(logits: Tensor, labels: Tensor) -> Tensor:
    """How many classes come before the label (B,): 0 means top-1. Among equals the lower index comes first.

    A class that cannot be compared, because a NaN is involved, comes before the label: a NaN is never right.
    """
    own = logits.gather(1, labels[:, None])
    at_or_after = torch.arange(logits.shape[1]) >= labels[:, None]
    return logits.shape[1] - ((logits < own) | ((logits == own) & at_or_after)).sum(dim=1)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """The loss of every image (B,), in nats."""
    return F.cross_entropy(logits, targets.to(logits.dtype) if targets.ndim == 2 else targets, reduction="none")


def confusion(labels: Tensor, predictions: Tensor, num_classes: int) -> Tensor:
    """Counts (K, K): row = true class, column = predicted class."""
    pairs = torch.bincount(labels * num_classes + predictions, minlength=num_classes**2)
    return pairs.view(num_classes, num_classes)


def reliability(logits: Tensor, labels: Tensor, num_bins: int = CALIBRATION_BINS) -> dict[str, np.ndarray]:
    """Mean ``confidence`` and ``accuracy``, and ``count``, in equal-width bins of the top probability.

    Bin i holds confidences in (i/num_bins, (i+1)/num_bins] (Guo et al. 2017, section 2). Empty bins are 0.
    """
    confidence = logits.softmax(dim=1).amax(dim=1)
    edges = torch.linspace(0, 1, num_bins + 1, dtype=torch.float64)[1:-1]
    member = torch.bucketize(confidence, edges)
    correct = (predicted(logits) == labels).double()
    count = torch.bincount(member, minlength=num_bins)
    total = {"confidence": confidence, "accuracy": correct}
    means = {k: ratio(torch.bincount(member, weights=v, minlength=num_bins), count) for k, v in total.items()}
    return {k: v.numpy() for k, v in (means | {"count": count}).items()}


def calibration_error(bins: dict[str, np.ndarray]) -> float:
    """Expected calibration error (Guo et al. 2017, equation 3) of ``reliability`` bins."""
    gap = np.abs(bins["accuracy"] - bins["confidence"])
    return float((gap * bins["count"]).sum() / bins["count"].sum())
