"""The Vision Transformer (Dosovitskiy et al. 2021).

Shapes: B batch, C channels, H W image, (h, w) token grid, N = h·w patches, T tokens = class token, distillation token,
registers, patches in this order, D width.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any, cast

import torch
from torch import Tensor, nn

from vitrail.errors import UserError
from vitrail.nn.attend import Attend, Located, at_layer, full
from vitrail.nn.attention import Attention
from vitrail.nn.block import Block
from vitrail.nn.continuous_bias import ContinuousBias
from vitrail.nn.conv_stem import ConvStem
from vitrail.nn.decomposed import DecomposedAttention
from vitrail.nn.encoder import Encoder
from vitrail.nn.features import Features as Features
from vitrail.nn.init import Initialised, initialise
from vitrail.nn.norms import build_norm
from vitrail.nn.patch_embed import PatchEmbed
from vitrail.nn.positions import LearnedPositions, NoPositions, SinusoidalPositions, build_positions
from vitrail.nn.recording import recorded
from vitrail.nn.relative_bias import RelativeBias
from vitrail.nn.resnet_stem import ResNetStem
from vitrail.nn.rotary import MixedRotary
from vitrail.nn.windows import Windowing, Windows
from vitrail.ops.channels import adapt_channels
from vitrail.ops.grid import Grid, Pair, as_pair
from vitrail.ops.patches import padded_cells
from vitrail.ops.relative import Cells, offsets
from vitrail.ops.rope import rope_2d
from vitrail.ops.tables import kept
from vitrail.vit_config import ViTConfig as ViTConfig
from vitrail.vit_presets import preset

STEMS = {"patch": PatchEmbed, "conv": ConvStem, "resnet": ResNetStem}


class ViT(Encoder, Initialised):
    """Images B C H W → :class:`Features`. Any H W that the patches cover works; positions follow the grid.

    Args:
        config: the architecture, or the name of a published one, such as ``"Ti/16"``.
        changes: fields of :class:`ViTConfig` that differ from it, such as ``image_size=384``.

    Raises:
        UserError: an unknown name or field.
    """

    embed: PatchEmbed | ConvStem | ResNetStem
    positions: LearnedPositions | SinusoidalPositions | NoPositions
    class_token: nn.Parameter | None
    distillation_token: nn.Parameter | None
    registers: nn.Parameter | None

    def __init__(self, config: ViTConfig | str, **changes: Any) -> None:
        super().__init__()
        config = preset(config, **changes) if isinstance(config, str) else dataclasses.replace(config, **changes)
        self.config = config
        dim, block = config.dim, config.block
        self.embed = STEMS[config.embed.kind](config.channels, config.patch_size, dim, config.embed)
        self.class_token = nn.Parameter(torch.empty(1, 1, dim)) if config.class_token else None
        self.distillation_token = nn.Parameter(torch.empty(1, 1, dim)) if config.distillation_token else None
        self.registers = nn.Parameter(torch.empty(1, config.registers, dim)) if config.registers else None
        grid = self.embed.grid(config.image_size)
        num_positioned = config.class_token + config.distillation_token if config.class_position else 0
        self.positions = build_positions(config.positions, grid, dim, num_positioned, config.resampling)
        self.rotary = None
        if (rotation := config.rotation) is not None and rotation.mixed:
            self.rotary = MixedRotary(config.depth, config.heads, config.head_dim, rotation.theta)
        self.dropout = nn.Dropout(block.dropout)
        self.pre_norm = build_norm(block.norm, dim, block.norm_eps) if config.pre_norm else nn.Identity()
        first = block.drop_path if block.drop_path_uniform else 0
        rates = torch.linspace(first, block.drop_path, config.depth, device="cpu").tolist()
        self.blocks = nn.ModuleList(
            Block(dim, config.heads, config.mlp_dim, block, rate, self._relative_bias(), self._attention(layer))
            for layer, rate in enumerate(rates)
        )
        self.norm = (
            build_norm(block.norm, dim, block.norm_eps, block.norm_affine) if config.final_norm else nn.Identity()
        )
        initialise(self)

    @property
    def num_prefix(self) -> int:
        """Tokens before the first patch: class token, distillation token, registers."""
        return self.config.class_token + self.config.distillation_token + self.config.registers

    def finish_reset(self) -> None:
        """Class and distillation token are zero, registers near zero."""
        for token in (self.class_token, self.distillation_token):
            if token is not None:
                nn.init.zeros_(token)
        if self.registers is not None:
            nn.init.normal_(self.registers, std=1e-6)

    def parameters_by_layer(self) -> list[list[nn.Parameter]]:
        """The parameters of the embedding with all tokens and positions, then of each block; the final norm's go with
        the last block."""
        blocks = [list(block.parameters()) for block in self.blocks]
        blocks[-1] += self.norm.parameters()
        later = {id(parameter) for block in blocks for parameter in block}
        return [[parameter for parameter in self.parameters() if id(parameter) not in later], *blocks]

    def require_size(self, size: Pair) -> None:
        """Check that the patches cover an image of this (height, width).

        Raises:
            UserError: they do not.
        """
        self.embed.grid(size)

    @property
    def fixed_token_count(self) -> bool:
        """Whether every layer has as many tokens as the first."""
        return True

    def forward(self, images: Tensor, patches: Tensor | None = None) -> Features:
        """B C H W → Features.

        Args:
            patches: as of :meth:`tokenise`.

        Raises:
            UserError: a channel count or image size that the model cannot take.
        """
        x, grid, positions = self.tokenise(images, patches)
        return self._features(self.encode(x, positions), grid)

    def grid(self, images: Tensor) -> Pair:
        """The token grid (h, w) of images B C H W.

        Raises:
            UserError: a channel count or image size that the model cannot take.
        """
        if images.ndim != 4 or images.shape[1] != self.config.channels:
            raise UserError(
                f"the model takes images of shape (batch, {self.config.channels}, height, width), "
                f"not {tuple(images.shape)}; convert them or build the model with channels={images.shape[-3]}"
            )
        return self.embed.grid((images.shape[-2], images.shape[-1]))

    def layers(self, tokens: Tensor, positions: Located = None, attend: Attend = full) -> Iterator[Tensor]:
        """The output of each block in turn, B T D, without the final norm.

        Blocks run as the iteration reaches them: stopping early saves the rest.

        Args:
            tokens: B T D, all or any choice of those of :meth:`tokenise`.
            attend: runs a block; which tokens attend to which, and which go on.
        """
        for layer, block in enumerate(self.blocks):
            tokens = attend(layer, cast("Block", block), tokens, at_layer(positions, layer))
            yield tokens

    def encode(self, tokens: Tensor, positions: Located = None, attend: Attend = full) -> Tensor:
        """Tokens B T D through all blocks and the final norm; arguments as of :meth:`layers`."""
        for output in self.layers(tokens, positions, attend):
            tokens = output
        return self.norm(tokens)

    def tokenise(self, images: Tensor, patches: Tensor | None = None) -> tuple[Tensor, Pair, Located]:
        """What enters the first block: tokens B T D with positions, their grid, and what attention needs to know of it
        (the rotation for rotary positions, the offsets for ``relative``).

        Args:
            patches: embedded patches B N D in place of the images' own, such as masked ones.
        """
        grid = self.grid(images)
        patches = self.embed(images) if patches is None else patches
        prefix = [t.expand(images.shape[0], -1, -1) for t in self._prefix_tokens() if t is not None]
        leading = torch.cat(prefix, dim=1) if prefix else patches[:, :0]
        x = self.dropout(self.positions(leading.to(patches.dtype), patches, grid))
        return self.pre_norm(x), grid, self._in_attention(grid, x.device)

    def intermediates(
        self, images: Tensor, layers: Iterable[int] | None = None, *, norm: bool = False
    ) -> list[Features]:
        """Features after the given blocks (0 is the first, −1 the last; default: all), in the order given.

        Args:
            norm: pass them through the final LayerNorm (DINOv2's habit; timm and Hugging Face do not).
        """
        tokens, grid, positions = self.tokenise(images)
        return [self._features(x, grid) for x in self._at(layers, tokens, positions, norm=norm)]

    def dense(
        self,
        images: Tensor,
        padding: Tensor | None = None,
        window: Windowing | None = None,
        layers: Sequence[int] | None = None,
        patches: Tensor | None = None,
    ) -> tuple[list[Features], Tensor | None]:
        """Normalised features after the given layers, with attention in windows and to no padding; and which cells of
        their map are padding: bool (B, h, w).

        The features of an image do not depend on its padding where positions do not depend on the size (all but
        learned ones on another grid) and patches are embedded one by one (no convolutional stem).

        Args:
            padding: bool (B, H, W), true where a pixel is not the image's; such pixels are not read.
            window: None: every block attends to all tokens.
            layers: default: the last one.
            patches: as of :meth:`tokenise`; only where ``layers`` is None.
        """
        assert layers is None or patches is None, "patches would be ignored"
        if padding is None and window is None:
            return [self(images, patches)] if layers is None else self.intermediates(images, layers, norm=True), None
        if padding is not None:
            images = images.masked_fill(padding.unsqueeze(1), 0)
        tokens, grid, positions = self.tokenise(images, patches)
        hidden = padding if padding is None else padded_cells(padding, grid)
        attend = Windows(grid, self.depth, window, hidden if hidden is None else hidden.flatten(1))
        found = self._at([-1] if layers is None else layers, tokens, positions, attend, norm=True)
        return [self._features(x, grid) for x in found], hidden

    def attentions(
        self,
        images: Tensor,
        layers: Iterable[int] | None = None,
        padding: Tensor | None = None,
        window: Windowing | None = None,
    ) -> list[Tensor]:
        """Attention matrices B H T T of the given blocks (default: all) as they are computed with this padding and in
        these windows (see :meth:`dense`): zero where a token does not attend to another one, rows sum to 1.

        The blocks then compute by their matrices, so the ordinary forward pass keeps its fused kernels.
        """
        wanted = self._layers(layers)
        with recorded({layer: self.blocks[layer] for layer in wanted}) as found:
            self.dense(images, padding, window, [max(wanted)])
        return [found[layer] for layer in wanted]

    def resize(self, image_size: int | Pair | None = None, patch_size: int | Pair | None = None) -> None:
        """Change the native image and patch size in place, for fine-tuning at another resolution.

        Learned positions are resampled by the config's rule; the patch kernel by FlexiViT's pseudo-inverse.

        Raises:
            UserError: the patches do not cover the image, or a stem whose patch size is fixed.
        """
        changes = {"image_size": image_size, "patch_size": patch_size}
        changed: dict[str, Any] = {name: as_pair(value) for name, value in changes.items() if value is not None}
        self.embed.resize(changed.get("patch_size", self.config.patch_size))
        if isinstance(self.embed, PatchEmbed) and self.embed.config.stride is not None:
            changed["embed"] = dataclasses.replace(self.embed.config, stride=self.embed.stride)
        resized = dataclasses.replace(self.config, **changed)
        grid = self.embed.grid(resized.image_size)
        self.positions.resize(grid)
        for block in self.blocks:
            cast("Block", block).attention.resize(grid)
        self.config = resized

    def adapt_channels(self, channels: int) -> None:
        """Change the number of channels of images in place: the first kernel is summed or repeated.

        Raises:
            UserError: patches are normalised, which ties their LayerNorm to the channels.
        """
        before = self.config.channels
        if before == channels:
            return
        if self.config.patch_embed.norm:
            raise UserError(f"the channels of a model with embed.norm cannot change from {before} to {channels}")
        first = next(m for m in self.embed.modules() if isinstance(m, nn.Conv2d) and m.in_channels == before)
        first.weight = nn.Parameter(adapt_channels(first.weight.detach(), channels))
        first.in_channels = channels
        self.config = dataclasses.replace(self.config, channels=channels)

    def _at(
        self,
        layers: Iterable[int] | None,
        tokens: Tensor,
        positions: Located,
        attend: Attend = full,
        *,
        norm: bool = False,
    ) -> list[Tensor]:
        """The outputs of the given layers (default: all), B T D each, in the order given."""
        wanted = self._layers(layers)
        outputs = enumerate(islice(self.layers(tokens, positions, attend), max(wanted) + 1))
        found = {layer: self.norm(x) if norm else x for layer, x in outputs if layer in wanted}
        return [found[layer] for layer in wanted]

    def _features(self, tokens: Tensor, grid: Grid) -> Features:
        return Features(tokens, grid, self.config.class_token, self.num_prefix, self.config.registers)

    def _prefix_tokens(self) -> tuple[nn.Parameter | None, ...]:
        return self.class_token, self.distillation_token, self.registers

    def _relative_bias(self) -> RelativeBias | ContinuousBias | None:
        """One block's own."""
        config = self.config
        if config.positions != "relative":
            return None
        grid = self.embed.grid(config.image_size)
        if config.continuous:
            return ContinuousBias(grid, config.heads)
        return RelativeBias(grid, config.heads, config.class_token, config.resampling)

    def _attention(self, layer: int) -> Callable[..., Attention]:
        """What builds the attention of a layer."""
        if (how := self.config.decomposed) is None:
            return Attention
        window = 0 if layer in how.global_layers else how.window
        return partial(DecomposedAttention, grid=self.embed.grid(self.config.image_size), window=window)

    def _in_attention(self, grid: Pair, device: torch.device) -> Located:
        if self.config.positions == "relative":
            return offsets(grid, self.config.class_token, device)
        if self.config.decomposed is not None:
            return Cells(grid)
        if self.rotary is not None:
            return self.rotary(grid)
        if (rotation := self.config.rotation) is None:
            return None
        how = (rotation.theta, rotation.coordinates, rotation.offset, rotation.reference)
        return kept(rope_2d, device, grid, self.config.head_dim, *how)

    def _layers(self, layers: Iterable[int] | None) -> Sequence[int]:
        depth = len(self.blocks)
        asked = list(range(depth)) if layers is None else list(layers)
        if bad := [layer for layer in asked if not -depth <= layer < depth]:
            raise UserError(f"there is no layer {bad[0]}; this model has layers 0 to {depth - 1}")
        return [layer % depth for layer in asked]
