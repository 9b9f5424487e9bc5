"""SimCLR (Chen et al. 2020): of all views of a batch, which two are of the same image?

B batch, C channels, D width.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

import torch
from pydantic import Field

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.metrics.representation import feature_std
from vitrail.nn.projector import Projector
from vitrail.ops.collective import gathered
from vitrail.ops.contrastive import nt_xent
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.panels import Panel, attention_and_pca
from vitrail.self_supervision.views import pair_of, pooled
from vitrail.trainable import Losses
from vitrail.vit import ViT, ViTConfig

Width = Annotated[int, Field(gt=0, le=131072)]


@config
class Config:
    """Args:
    temperature: 0.1 for ImageNet; 0.5 suits small batches (appendix B.7 and B.9).
    hidden_dim, output_dim: of the projector.
    """

    model: ViTConfig
    temperature: Annotated[float, Field(gt=0)] = 0.1
    hidden_dim: Width = 2048
    output_dim: Width = 128


class Task(Pretraining):
    """An encoder, and a projector that is dropped after the pretraining."""

    num_views: ClassVar[int] = 2
    whole_batch: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.model)
        self.projector = Projector(config.model.dim, config.hidden_dim, config.output_dim)

    def loss(self, batch: Batch) -> Losses:
        """``loss``; ``accuracy`` of picking the partner; ``feature_std``, which is 0 if the features collapsed.

        Raises:
            UserError: not two views, or a batch of one image.
        """
        features = torch.cat([pooled(self.vit(view)) for view in pair_of(batch, self)])
        first, second = self.projector(features).chunk(2)
        loss, accuracy = nt_xent(first, second, self.config.temperature)
        return {"loss": loss, "accuracy": accuracy, "feature_std": feature_std(gathered(features.detach()).float())}

    def show(self, batch: Batch) -> list[Panel]:
        """The encoder's attention, and which patches have similar features."""
        return attention_and_pca(self.vit, batch["images"])
