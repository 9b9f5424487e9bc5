"""What DINO and iBOT share: a student, a teacher that is its moving average, and the crops that they encode.

B batch, C channels, D width, K outputs; crops of one size stand in one tensor, crop by crop.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch, views_of
from vitrail.errors import UserError
from vitrail.metrics.representation import feature_std
from vitrail.nn.encoder import Encoder
from vitrail.nn.prototypes import PrototypeHead
from vitrail.nn.teacher import follow, teacher_of
from vitrail.ops.collective import gathered
from vitrail.ops.distillation import relative_entropy_of
from vitrail.ops.schedules import cosine, warmed_up
from vitrail.self_supervision.panels import Panel, attention_and_pca
from vitrail.trainable import Embedder, Trainable
from vitrail.vit import ViT, ViTConfig

Width = Annotated[int, Field(gt=1, le=1048576)]
Share = Annotated[float, Field(ge=0, le=1)]
Temperature = Annotated[float, Field(ge=0.01)]


@config
class DistillationConfig:
    """Args:
    num_prototypes, hidden_dim, bottleneck_dim: K, and the widths inside the head.
    normalise_prototypes: keep the prototypes at length 1, which is more stable; else they learn their lengths, which
        the authors prefer for ViT-S (their norm_last_layer).
    teacher_temperature: at the beginning, and after it rose linearly for ``temperature_warmup`` of the training.
    momentum: of the teacher at the beginning; along a cosine it becomes 1.
    freeze_prototypes: for which share of the training the prototypes stay as they were drawn.
    """

    model: ViTConfig
    num_prototypes: Width = 65536
    hidden_dim: Width = 2048
    bottleneck_dim: Width = 256
    normalise_prototypes: bool = True
    student_temperature: Temperature = 0.1
    teacher_temperature: tuple[Temperature, Temperature] = (0.04, 0.07)
    temperature_warmup: Share = 0.3
    momentum: Share = 0.996
    freeze_prototypes: Share = 0.01


class SelfDistillation(Embedder, Trainable):
    """A student and its teacher, each an encoder with a head. The released encoder is the teacher's.

    Attributes:
        teacher: moving averages of those submodules of the student that have the same names.
        temperature: the teacher's at the coming step.
    """

    num_views: ClassVar[int] = 2
    config: DistillationConfig
    temperature: Tensor

    def __init__(self, config: DistillationConfig) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.model)
        self.head = self.new_head()
        self.teacher = nn.ModuleDict({name: teacher_of(getattr(self, name)) for name in ("vit", "head")})
        self.register_buffer("temperature", torch.empty(()))
        self.prepare(0.0)

    def encoders(self) -> Mapping[str, Encoder]:
        """The teacher's, whose features are used later, and the student's."""
        return {"teacher.vit": self.teacher_vit, "vit": self.vit}

    @property
    def teacher_vit(self) -> ViT:
        """The teacher's encoder."""
        return cast("ViT", self.teacher["vit"])

    def new_head(self) -> PrototypeHead:
        config = self.config
        return PrototypeHead(
            config.model.dim,
            config.hidden_dim,
            config.bottleneck_dim,
            config.num_prototypes,
            normalise=config.normalise_prototypes,
        )

    def before_step(self, step: int, num_steps: int) -> None:
        """The prototypes stay at first."""
        if step / num_steps < self.config.freeze_prototypes:
            for module in self.modules():
                if isinstance(module, PrototypeHead):
                    module.freeze()

    def after_step(self, step: int, num_steps: int) -> None:
        """The teacher follows the student."""
        momentum = cosine(self.config.momentum, 1.0, step / num_steps)
        for name, module in self.teacher.items():
            follow(module, getattr(self, name), momentum)
        self.prepare((step + 1) / num_steps)

    def prepare(self, progress: float) -> None:
        """Set what the coming step needs, in a buffer: reading a number from it would make the host wait for a GPU."""
        config = self.config
        self.temperature.fill_(warmed_up(*config.teacher_temperature, config.temperature_warmup, progress))

    def crops(self, batch: Batch) -> tuple[Tensor, list[Tensor]]:
        """The global crops, which have the model's image size, (G·B C H W), and the local ones, (V·B C h w) for each
        of their sizes.

        Raises:
            UserError: less than two global crops.
        """
        size = self.config.model.image_size
        crops: dict[tuple[int, ...], list[Tensor]] = {size: []}
        for view in views_of(batch):
            crops.setdefault(tuple(view.shape[-2:]), []).append(view)
        whole, *parts = crops.values()
        if len(whole) < 2:
            raise UserError(
                f"{self.name!r} compares at least two views of the full size, {size[0]}×{size[1]} pixels, and there "
                f"are {len(whole)}; give data.views two with scale=1"
            )
        return torch.cat(whole), [torch.cat(part) for part in parts]

    def monitors(self, features: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """Signs of a collapse: the entropy of the teacher's outputs, a share of log K, at 0 or 1; or the spread of its
        features at 0."""
        return {
            "teacher_entropy": relative_entropy_of(targets),
            "feature_std": feature_std(gathered(features.float())),
        }

    def show(self, batch: Batch) -> list[Panel]:
        """The teacher's attention, and which patches have similar features."""
        return attention_and_pca(self.teacher_vit, batch["images"])
