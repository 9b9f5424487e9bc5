"""The diffusion transformer: a ViT whose layer norms follow a time and a class (Peebles & Xie 2023, DiT).

It works on pixels (Li & He 2025, JiT) as on latents. Shapes: B batch, C channels, H W image, T tokens, D width.
"""

from __future__ import annotations

from typing import Annotated, Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.nn.attend import Positions
from vitrail.nn.block import Block
from vitrail.nn.conditions import NO_CLASS, ClassEmbedding, TimeEmbedding
from vitrail.nn.init import Initialised, initialise
from vitrail.nn.modulation import BlockModulation, ConditionMap, modulate
from vitrail.ops.patches import unpatchify
from vitrail.vit import ViT, ViTConfig

TIMES = 1000.0
"""The time embedding takes times from 0 to this."""


@config
class ConditionConfig:
    """How a diffusion transformer takes its condition.

    Args:
        counts: whether times are told as the share of the image, or as the step of DDPM's 1,000 steps of noise, from 0
            on.
        class_tokens: copies of the class embedding with positions of their own that go with the tokens (JiT).
        class_tokens_from: the first block that sees them.
        sinusoids: of the time embedding.
        sinusoids_end: 0 as in DiT, 1 as in diffusers (:class:`vitrail.nn.conditions.TimeEmbedding`).
    """

    counts: Literal["image", "steps"] = "image"
    class_tokens: Annotated[int, Field(ge=0, le=1024)] = 0
    class_tokens_from: Annotated[int, Field(ge=0, le=256)] = 0
    sinusoids: Annotated[int, Field(gt=0, le=4096, multiple_of=2)] = 256
    sinusoids_end: Annotated[int, Field(ge=0, le=1)] = 0


class DiT(Initialised):
    """Noisy images B C H W with their times B and labels B → predictions B C' H W.

    Args:
        num_classes: 0: it has no condition but the time.
        channels: C', default: C.
        times: how many times condition it, such as the two ends of an interval.
    """

    def __init__(
        self,
        model: ViTConfig,
        num_classes: int,
        condition: ConditionConfig | None = None,
        channels: int | None = None,
        times: int = 1,
    ) -> None:
        super().__init__()
        condition = condition or ConditionConfig()
        self.condition, self.channels = condition, channels or model.channels
        dim = model.dim
        self.vit = ViT(model)
        self.times = nn.ModuleList(
            TimeEmbedding(dim, condition.sinusoids, condition.sinusoids_end) for _ in range(times)
        )
        self.classes = ClassEmbedding(num_classes, dim) if num_classes else None
        tokens = condition.class_tokens if num_classes else 0
        self.class_positions = nn.Parameter(torch.empty(1, tokens, dim)) if tokens else None
        self.modulations = nn.ModuleList(BlockModulation(dim) for _ in range(model.depth))
        self.last_modulation = ConditionMap(dim, 2)
        self.pixels = nn.Linear(dim, self.channels * model.patch_size[0] * model.patch_size[1])
        for module in (self.times, self.modulations, self.last_modulation, self.classes):
            if module is not None:
                initialise(module)
        self.finish_reset()

    def finish_reset(self) -> None:
        """The output is zero at first."""
        nn.init.zeros_(self.pixels.weight)
        nn.init.zeros_(self.pixels.bias)
        if self.class_positions is not None:
            nn.init.normal_(self.class_positions, std=0.02)

    def forward(self, noisy: Tensor, times: Tensor, labels: Tensor | None = None) -> Tensor:
        """Predictions B C' H W.

        Args:
            times: from 0 (noise) to 1 (image), B, or (K, B) where it has several.
            labels: int64 B, -1 for no class; None: none has one.
        """
        return self.forward_with_features(noisy, times, labels)[0]

    def forward_with_features(
        self, noisy: Tensor, times: Tensor, labels: Tensor | None = None, layer: int = -1
    ) -> tuple[Tensor, Tensor]:
        """What :meth:`forward` gives, and the patches after a block, B N D; of images without noise and class they are
        features for recognition (Xiang et al. 2023, DDAE)."""
        tokens, grid, positions = self.vit.tokenise(noisy)
        num_patches, wanted = grid[0] * grid[1], layer % self.vit.depth
        of_class = None
        if self.classes is not None:
            none = torch.full((noisy.shape[0],), NO_CLASS, device=noisy.device)
            of_class = self.classes(none if labels is None else labels)
        vector = self._vector(times, of_class)
        attend = _Conditioned(self, vector, of_class)
        features = last = tokens
        for number, last in enumerate(self.vit.layers(tokens, positions, attend)):
            features = last if number == wanted else features
        shift, scale = self.last_modulation(vector)
        patches = self.pixels(modulate(self.vit.norm(last[:, -num_patches:]), shift, scale))
        return unpatchify(patches, self.vit.config.patch_size, grid), features[:, -num_patches:]

    def _vector(self, times: Tensor, of_class: Tensor | None) -> Tensor:
        """What modulates the norms, B D."""
        rows = times if times.ndim == 2 else times[None]
        assert len(rows) == len(self.times), f"{len(rows)} times for {len(self.times)} embeddings"
        told = TIMES * rows if self.condition.counts == "image" else TIMES * (1 - rows) - 1
        vector = sum(embed(row) for embed, row in zip(self.times, told, strict=True))
        assert isinstance(vector, Tensor)
        return vector if of_class is None else vector + of_class


class _Conditioned:
    """All tokens attend to all, with modulated norms; tokens of the class join at their layer."""

    def __init__(self, model: DiT, vector: Tensor, of_class: Tensor | None) -> None:
        self.model, self.vector, self.of_class = model, vector, of_class

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        model = self.model
        if model.class_positions is not None and layer == model.condition.class_tokens_from:
            assert self.of_class is not None, "there are no classes without a table of them"
            x = torch.cat((self.of_class[:, None] + model.class_positions, x), dim=1)
        modulation = model.modulations[layer]
        assert isinstance(modulation, BlockModulation)
        y: Tensor = block(x, positions, modulation=modulation.branches(self.vector))
        return y
