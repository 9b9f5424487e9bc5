"""A generator and a discriminator that learn against each other (Goodfellow et al. 2014).

The generator is a transformer in the manner of StyleGAN (Karras et al. 2019): learned tokens, whose norms follow a
style, which a network of its own maps from noise and class. The discriminator is a ViT with a projection of the class
(Miyato & Koyama 2018). Losses are relativistic, each real image against a drawn one, with zero-centred penalties of the
discriminator's gradients at both (Huang et al. 2024, R3GAN).

Shapes: B batch, C H W image, N patches, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.sample_random import normal
from vitrail.data.transforms.geometry import identities
from vitrail.errors import UserError
from vitrail.generate import Generative
from vitrail.metrics import Rows, representation
from vitrail.nn.attend import Positions
from vitrail.nn.attention import Attention
from vitrail.nn.block import Block
from vitrail.nn.conditions import ClassEmbedding
from vitrail.nn.encoder import Encoder
from vitrail.nn.frozen import frozen_call
from vitrail.nn.init import Initialised, initialise
from vitrail.nn.modulation import BlockModulation, ConditionMap, modulate
from vitrail.ops.inverse import Measurement
from vitrail.ops.patches import unpatchify
from vitrail.sampling import SamplerConfig, Start
from vitrail.self_supervision.views import pooled
from vitrail.trainable import Forward, Losses
from vitrail.vit import ViT, ViTConfig


@config
class Config:
    """Args:
    model: of the generator and of the discriminator alike.
    noise_dim: numbers that a picture is made of.
    penalty: weight of the squared gradients.
    sampler: ``guidance`` has no meaning here, and there is one step.
    """

    model: ViTConfig
    classes: tuple[str, ...] = ()
    noise_dim: Annotated[int, Field(gt=0, le=4096)] = 64
    penalty: Annotated[float, Field(ge=0)] = 1.0
    sampler: SamplerConfig = SamplerConfig(name="euler", steps=1)


class Generator(Initialised):
    """Noise B Z and labels B → images B C H W."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        model = config.model
        dim, (height, width), (p_h, p_w) = model.dim, model.image_size, model.patch_size
        self.grid, self.patch_size = (height // p_h, width // p_w), model.patch_size
        self.classes = ClassEmbedding(len(config.classes), dim) if config.classes else None
        self.style1 = nn.Linear(config.noise_dim, dim)
        self.style2 = nn.Linear(dim, dim)
        self.tokens = nn.Parameter(torch.empty(1, self.grid[0] * self.grid[1], dim))
        self.blocks = nn.ModuleList(Block(dim, model.heads, model.mlp_dim, model.block) for _ in range(model.depth))
        self.modulations = nn.ModuleList(BlockModulation(dim) for _ in range(model.depth))
        self.last_modulation = ConditionMap(dim, 2)
        self.norm = nn.LayerNorm(dim, model.block.norm_eps)
        self.pixels = nn.Linear(dim, model.channels * p_h * p_w)
        initialise(self)
        self.start_styled()

    @torch.no_grad()
    def start_styled(self) -> None:
        """Tokens differ, and styles act from the beginning: nothing is learned from pictures that are all the same."""
        nn.init.normal_(self.tokens)
        for modulation in (*self.modulations, self.last_modulation):
            assert isinstance(modulation, ConditionMap)
            nn.init.normal_(modulation.linear.weight, std=modulation.linear.in_features**-0.5)

    def forward(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        style = F.normalize(noise, dim=1) * noise.shape[1] ** 0.5
        style = F.silu(self.style1(style))
        if self.classes is not None and labels is not None:
            style = style + self.classes.table.weight.shape[1] ** 0.5 * self.classes(labels)
        style = self.style2(style)
        x = self.tokens.expand(noise.shape[0], -1, -1)
        for block, modulation in zip(self.blocks, self.modulations, strict=True):
            assert isinstance(modulation, BlockModulation)
            x = block(x, modulation=modulation.branches(style))
        shift, scale = self.last_modulation(style)
        return unpatchify(self.pixels(modulate(self.norm(x), shift, scale)), self.patch_size, self.grid)


class Discriminator(nn.Module):
    """Images B C H W and labels B → how real they are, B."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.vit = ViT(config.model)
        self.output = nn.Linear(config.model.dim, 1)
        self.classes = ClassEmbedding(len(config.classes), config.model.dim) if config.classes else None
        for module in (self.output, self.classes):
            if module is not None:
                initialise(module)

    def forward(self, images: Tensor, labels: Tensor | None) -> Tensor:
        tokens, _, positions = self.vit.tokenise(images)
        features = self.vit.encode(tokens, positions, openly).mean(dim=1)
        scores = self.output(features)[:, 0]
        if self.classes is None or labels is None:
            return scores
        return scores + (features * self.classes(labels)).sum(dim=1)


def openly(layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
    """Attention by its matrix, which has a second derivative, as the fused kernels have not."""
    y: Tensor = block(x, positions, _Open())
    return y


class _Open:
    """The pattern of :func:`openly`."""

    def __call__(self, module: Attention, x: Tensor, positions: Positions) -> Tensor:
        return module.openly(x, positions)[0]

    def mask(self, x: Tensor) -> Tensor | None:
        return None


class Task(Generative):
    """Generator and discriminator; features are the discriminator's."""

    shardable: ClassVar[bool] = False  # the gradient of a gradient needs whole weights
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.generator = Generator(config)
        self.discriminator = Discriminator(config)

    @property
    def sampler(self) -> SamplerConfig:
        """One step."""
        return self.config.sampler

    @property
    def names(self) -> tuple[str, ...]:
        """The classes."""
        return self.config.classes

    def encoders(self) -> Mapping[str, Encoder]:
        """The discriminator's."""
        return {"discriminator.vit": self.discriminator.vit}

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the discriminator's features, B D."""
        return pooled(self.discriminator.vit(images))

    def loss(self, batch: Batch) -> Losses:
        """Of both: each learns from its own part alone. The penalties are ½ γ |∇D|² (R3GAN, equation 3)."""
        images, labels = batch["images"], self.labels(batch)
        drawn = self.generator(self._noise(batch["keys"]), labels)
        judged = frozen_call(self.discriminator, drawn, labels)
        real, fake = images.detach().requires_grad_(), drawn.detach().requires_grad_()
        of_real, of_fake = self.discriminator(real, labels), self.discriminator(fake, labels)
        told_apart = F.softplus(of_fake - of_real).mean()
        deceived = F.softplus(of_real.detach() - judged).mean()
        penalty = (squared_slope(of_real, real) + squared_slope(of_fake, fake)).mean()
        total = told_apart + deceived + self.config.penalty / 2 * penalty
        parts = {"discriminator": told_apart, "generator": deceived, "penalty": penalty}
        return {"loss": total, **{name: value.detach() for name, value in parts.items()}}

    def evaluate_batch(self, batch: Batch, forward: Forward | None = None) -> Rows:
        """The features."""
        return self.metrics().reduce((forward or self)(batch["images"]).float(), identities(batch["images"]))

    def metrics(self) -> representation.Metrics:
        """Of the discriminator's features."""
        return representation.Metrics()

    def noise(self, keys: Tensor) -> Tensor:
        """Normal numbers B Z."""
        return self._noise(keys)

    def draw(
        self,
        noise: Tensor,
        conditions: Tensor,
        sampler: SamplerConfig | None = None,
        measurement: Measurement | None = None,
        start: Start | None = None,
    ) -> Tensor:
        """Images B C H W; see :meth:`vitrail.generate.Generative.draw`."""
        if measurement is not None or start is not None:
            raise UserError("an adversarial generator draws whole pictures alone; choose a model of flow_matching")
        if sampler is not None and (sampler.guidance != 1 or sampler.steps != 1):
            raise UserError("an adversarial generator draws in one step without guidance; leave both out")
        images: Tensor = self.generator(noise, conditions if self.config.classes else None)
        return images

    def _noise(self, keys: Tensor) -> Tensor:
        return normal(keys, "noise", (self.config.noise_dim,), self.generator.tokens)


def squared_slope(scores: Tensor, images: Tensor) -> Tensor:
    """|∇ score|² of each image, B; it has a gradient itself."""
    if not scores.requires_grad:  # measured, not learned
        return torch.zeros_like(scores)
    (slope,) = torch.autograd.grad(scores.sum(), images, create_graph=True)
    return slope.square().sum(dim=(1, 2, 3))
