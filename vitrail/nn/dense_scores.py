"""Dense supervision of a set predictor's features: every cell learns, several for each object.

A set predictor teaches one query an object, so its encoder learns from few signals. A further head that is used in
training alone gives it as many as a dense detector has (Zong et al. 2023, Co-DETR, section 3.2), with the assignment of
TOOD. It shares the boxes of the proposals, which so become better as well.

Shapes: B images, N cells of all maps, D width.
"""

from __future__ import annotations

from typing import Annotated

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.proposals import Proposed, without_class
from vitrail.ops import boxes as box_ops
from vitrail.ops.dense_assignment import assign
from vitrail.ops.set_criterion import SetCriterion
from vitrail.ops.set_losses import Truth, VarifocalRule, weighed


@config
class DenseConfig:
    """Args:
    per_object: cells that learn an object, at most.
    weight: of the loss.
    """

    per_object: Annotated[int, Field(gt=0, le=100)] = 9
    weight: Annotated[float, Field(gt=0, le=100)] = 1.0


class DenseScores(nn.Module):
    """The classes of cells B N D, for training."""

    def __init__(self, dim: int, num_classes: int, config: DenseConfig) -> None:
        super().__init__()
        self.config = config
        self.score = nn.Linear(dim, num_classes)

    def loss(self, criterion: SetCriterion, proposed: Proposed, truth: Truth, num_objects: Tensor) -> Tensor:
        """The weighted loss of cells: varifocal of the alignment, and boxes, averaged over each object's cells with it.

        Args:
            num_objects: what sums are divided by.
        """
        rule, logits = VarifocalRule(), self.score(proposed.features).float()
        if proposed.hidden is not None:
            logits = without_class(logits, proposed.hidden, logits.shape[-1])
        pairs, quality = assign(rule.scores(logits), proposed.boxes, proposed.cells, truth, self.config.per_object)
        labels = torch.full(logits.shape[:2], -1, device=logits.device)
        labels[pairs.image, pairs.query] = truth.labels[pairs.target]
        aligned = torch.zeros(logits.shape[:2], device=logits.device)
        aligned[pairs.image, pairs.query] = quality
        said, true = proposed.boxes[pairs.image, pairs.query].float(), truth.boxes[pairs.target]
        total = torch.zeros(len(truth.labels), device=logits.device).index_add(0, pairs.target, quality)
        share = quality / total[pairs.target].clamp(min=torch.finfo(quality.dtype).tiny)
        overlap = box_ops.generalised_iou(box_ops.cxcywh_to_xyxy(said), box_ops.cxcywh_to_xyxy(true))
        losses = {
            "label": rule.loss(logits, labels, aligned) / (self.config.per_object * num_objects),
            "l1": ((said - true).abs().sum(dim=1) * share).sum() / num_objects,
            "giou": ((1 - overlap) * share).sum() / num_objects,
        }
        return self.config.weight * weighed(losses, criterion.weights)
