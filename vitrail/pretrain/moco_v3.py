"""MoCo v3 (Chen, Xie and He 2021): which image of the batch does a slowly moving copy see in its other view?

B batch, C channels, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.metrics.representation import feature_std
from vitrail.nn.encoder import Encoder
from vitrail.nn.projector import Projector
from vitrail.nn.teacher import follow, teacher_of
from vitrail.ops.collective import gathered
from vitrail.ops.contrastive import info_nce
from vitrail.ops.schedules import cosine
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.panels import Panel, attention_and_pca
from vitrail.self_supervision.views import pair_of, pooled
from vitrail.trainable import Losses
from vitrail.vit import ViT, ViTConfig

Width = Annotated[int, Field(gt=0, le=131072)]


@config
class Config:
    """Args:
    momentum: of the momentum encoder at the beginning; along a cosine it becomes 1.
    freeze_embed: leave the patch projection as it was drawn, for a stable training (section 4.3).
    hidden_dim, output_dim: of projector and predictor.
    """

    model: ViTConfig
    temperature: Annotated[float, Field(gt=0)] = 0.2
    momentum: Annotated[float, Field(ge=0, le=1)] = 0.99
    freeze_embed: bool = True
    hidden_dim: Width = 4096
    output_dim: Width = 256


class Task(Pretraining):
    """An encoder with projector and predictor, and copies of the former two, the momentum encoder.

    Attributes:
        teacher: the momentum encoder's parts, under the names of those that they follow.
    """

    num_views: ClassVar[int] = 2
    whole_batch: ClassVar[bool] = True
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        hidden, output = config.hidden_dim, config.output_dim
        self.vit = ViT(config.model)
        self.vit.embed.requires_grad_(not config.freeze_embed)
        self.projector = Projector(config.model.dim, hidden, hidden, output)
        self.predictor = Projector(output, hidden, output)
        self.teacher = nn.ModuleDict({name: teacher_of(getattr(self, name)) for name in ("vit", "projector")})

    def encoders(self) -> Mapping[str, Encoder]:
        """The query encoder, and the momentum encoder that follows it."""
        return {"vit": self.vit, "teacher.vit": cast("ViT", self.teacher["vit"])}

    def loss(self, batch: Batch) -> Losses:
        """``loss``; ``accuracy`` of picking the key; ``feature_std``, which is 0 if the features collapsed.

        Raises:
            UserError: not two views, or a batch of one image.
        """
        views, temperature = pair_of(batch, self), self.config.temperature
        features = [pooled(self.vit(view)) for view in views]
        queries = [self.predictor(self.projector(each)) for each in features]
        keys = [self.keys(view) for view in views]
        (loss, right), (other_loss, other_right) = (info_nce(queries[i], keys[1 - i], temperature) for i in range(2))
        return {
            "loss": 2 * temperature * (loss + other_loss),
            "accuracy": (right + other_right) / 2,
            "feature_std": feature_std(gathered(torch.cat(features).detach()).float()),
        }

    @torch.no_grad()
    def keys(self, images: Tensor) -> Tensor:
        """B C H W → what the momentum encoder makes of them, B D."""
        return self.teacher["projector"](pooled(self.teacher["vit"](images)))

    def after_step(self, step: int, num_steps: int) -> None:
        """The momentum encoder follows."""
        momentum = cosine(self.config.momentum, 1.0, (step + 1) / num_steps)
        for name, module in self.teacher.items():
            follow(module, getattr(self, name), momentum)

    def show(self, batch: Batch) -> list[Panel]:
        """The encoder's attention, and which patches have similar features."""
        return attention_and_pca(self.vit, batch["images"])
