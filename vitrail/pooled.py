"""Models that make one vector of an image: encoder → pool → head; and tasks that learn from its outputs alone."""

from __future__ import annotations

import copy
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Self

from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.data.batch import Batch, tensor_targets
from vitrail.errors import UserError
from vitrail.nn.encoder import Encoder
from vitrail.nn.head import Head, HeadConfig
from vitrail.nn.init import initialise
from vitrail.nn.mlp import MlpKind
from vitrail.nn.pooling import AttentionPoolConfig, ClassTokensMeanPool, PoolKind, build_pool, pooled_dim
from vitrail.ops.grid import Pair
from vitrail.trainable import Embedder, Losses, Trainable
from vitrail.vit import ViT, ViTConfig


@config
class PooledConfig:
    """An encoder, how its tokens become one vector, and the head.

    Args:
        pool: default: the class token where the model has one, else the mean of the patches.
        attention_pool: of ``pool=attention``, what differs from the blocks.
        pool_tokens: of ``pool=prefix``, which tokens before the patches, from 0.
    """

    model: ViTConfig
    pool: PoolKind | None = None
    attention_pool: AttentionPoolConfig | None = None
    pool_tokens: tuple[Annotated[int, Field(ge=0)], ...] = ()
    head: HeadConfig = HeadConfig()


class PooledModel(Embedder):
    """encoder → pool → head, with ``num_outputs`` numbers per image."""

    config: PooledConfig

    def __init__(self, config: PooledConfig) -> None:
        super().__init__()
        self.config = config
        model = config.model
        kind: PoolKind = config.pool or ("cls" if model.class_token else "mean")
        if kind.startswith("cls") and not model.class_token:
            raise UserError(f"pool={kind!r} needs a model with class_token=true; choose pool='mean'")
        if kind == "cls4_mean" and model.depth < ClassTokensMeanPool.num_layers:
            raise UserError(f"pool='cls4_mean' takes the last {ClassTokensMeanPool.num_layers} of {model.depth} layers")
        distilled = kind == "cls_distillation"
        if distilled != config.head.distilled or (distilled and not model.distillation_token):
            raise UserError("pool='cls_distillation', head.distilled and model.distillation_token go together; set all")
        if config.attention_pool is not None and kind != "attention":
            raise UserError(f"attention_pool does not go with pool={kind!r}; leave it out")
        tokens, num_prefix = config.pool_tokens, model.class_token + model.distillation_token + model.registers
        if (kind == "prefix") != bool(tokens) or any(token >= num_prefix for token in tokens):
            raise UserError(
                f"pool_tokens={tokens} does not go with pool={kind!r} and {num_prefix} tokens before the patches; "
                "pool='prefix' takes the numbers of some of them"
            )
        mlp: MlpKind = "gelu" if model.block.mlp == "swiglu" else model.block.mlp
        self.vit = ViT(model)
        self.pool = build_pool(
            kind, model.dim, model.heads, model.mlp_dim, mlp, model.block.norm_eps, config.attention_pool, tokens
        )
        self.head = Head(pooled_dim(kind, model.dim, len(tokens)), self.num_outputs, config.head, model.block.norm_eps)
        initialise(self.pool)
        initialise(self.head)

    @property
    @abstractmethod
    def num_outputs(self) -> int:
        """K, the width of the head's output."""

    def encoders(self) -> Mapping[str, Encoder]:
        """The only one."""
        return {"vit": self.vit}

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the pooled vector before the head, B D."""
        if isinstance(self.pool, ClassTokensMeanPool):
            last = range(self.vit.depth - self.pool.num_layers, self.vit.depth)
            return self.pool.from_layers(self.vit.intermediates(images, last, norm=True))
        features = self.vit(images)
        return self.pool(features.prefix, features.patches)

    def forward_head(self, vectors: Tensor) -> Tensor:
        """What :meth:`embed` returns, B D → raw outputs, B K."""
        return self.rescaled(self.head(vectors))

    def rescaled(self, outputs: Tensor) -> Tensor:
        """What the head computes, B K → raw outputs, such as numbers in the unit of the data."""
        return outputs

    def forward_with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs and the pooled vector, in one pass."""
        vectors = self.embed(images)
        return self.forward_head(vectors), vectors

    def forward(self, images: Tensor) -> Tensor:
        """B C H W → B K."""
        return self.forward_head(self.embed(images))


@config
class PooledTaskConfig(PooledConfig):
    """Args:
    mirrored: predict by the mean over an image and its mirror image, in twice the time (test-time augmentation).
    """

    mirrored: bool = False


class PooledTask(PooledModel, Trainable):
    """One that learns from images whose target is one tensor."""

    config: PooledTaskConfig

    @abstractmethod
    def criterion(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """The mean loss of raw outputs B K, a scalar."""

    @abstractmethod
    def average_views(self, outputs: Sequence[Tensor], mirrored: Sequence[bool], size: Pair) -> Tensor:
        """One output B K for each image from those of several views of it."""

    def one_view(self) -> Self:
        """Without ``mirrored``."""
        if not self.config.mirrored:
            return self
        shared = copy.copy(self)  # parameters and modules are these
        shared.config = replace(self.config, mirrored=False)
        return shared

    def forward_with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Raw outputs and the pooled vector. With ``mirrored``, outside of training, outputs are those of two views;
        the vector is that of the image."""
        outputs, vectors = super().forward_with_embedding(images)
        if self.config.mirrored and not self.training:
            mirror = self.forward_head(self.embed(images.flip(-1)))
            size = images.shape[-2], images.shape[-1]
            outputs = self.average_views((outputs, mirror), (False, True), size)
        return outputs, vectors

    def forward(self, images: Tensor) -> Tensor:
        """B C H W → B K."""
        return self.forward_with_embedding(images)[0]

    def loss(self, batch: Batch) -> Losses:
        """The criterion alone."""
        return {"loss": self.criterion(self(batch["images"]), tensor_targets(batch))}
