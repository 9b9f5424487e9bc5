"""The architecture of a Vision Transformer in numbers: :class:`ViTConfig`."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from vitrail.config import Size, config
from vitrail.nn.block import BlockConfig
from vitrail.nn.conv_stem import ConvStemConfig
from vitrail.nn.decomposed import DecomposedConfig
from vitrail.nn.patch_embed import PatchEmbedConfig
from vitrail.nn.positions import PositionKind
from vitrail.nn.resnet_stem import ResNetStemConfig
from vitrail.nn.rotary import RotaryConfig
from vitrail.ops.positions import Resampling

_AXIAL = RotaryConfig()  # a graph that is traced makes no configs
EmbedConfig = Annotated[PatchEmbedConfig | ConvStemConfig | ResNetStemConfig, Field(discriminator="kind")]


@config
class ViTConfig:
    """The architecture, without pooling and head (those belong to a task).

    Args:
        image_size: native (height, width) in pixels; other sizes work at run time by resampling positions.
        patch_size: pixels per token, (height, width); with a stem, its total downsampling.
        embed: what makes tokens of pixels: ``patch``, ``conv`` or ``resnet`` (the hybrids).
        positions: ``learned``, ``sincos_1d``, ``sincos_2d``, ``sincos_2d_mae`` (with MAE's frequencies), ``rope_2d``
            (rotary, in attention), ``relative`` (a bias of attention in every block, BEiT) or ``none``.
        continuous: the bias of ``relative`` is what a small network makes of offsets, and no table (Swin V2).
        rotary: what the rotation is made of. Queries and keys turn beside learned or sine positions, too, where this is
            given (EVA-02); default: none but for ``rope_2d``.
        decomposed: attention in windows, with relative positions by row and column beside the others (SAM).
        resampling: how learned positions and tables of relative ones move to another grid.
        class_token: a learned token before the patches, with its own learned position unless
            ``class_position`` is false (DeiT III).
        distillation_token: a second one after it, for a teacher's labels (Touvron et al. 2021, DeiT).
        registers: learned tokens without position between class token and patches (Darcet et al. 2024).
        pre_norm: LayerNorm before the first block (CLIP). ``final_norm``: after the last; post-norm blocks need none.
    """

    image_size: Size = (224, 224)
    channels: Annotated[int, Field(gt=0, le=1024)] = 3
    patch_size: Size = (16, 16)
    dim: Annotated[int, Field(gt=0, le=16384)] = 192
    depth: Annotated[int, Field(gt=0, le=256)] = 12
    heads: Annotated[int, Field(gt=0, le=256)] = 3
    mlp_dim: Annotated[int, Field(gt=0, le=131072)] = 768
    embed: EmbedConfig = PatchEmbedConfig()
    block: BlockConfig = BlockConfig()
    positions: PositionKind = "learned"
    continuous: bool = False
    rotary: RotaryConfig | None = None
    decomposed: DecomposedConfig | None = None
    resampling: Resampling = "bicubic_antialias"
    class_token: bool = True
    class_position: bool = True
    distillation_token: bool = False
    registers: Annotated[int, Field(ge=0, le=1024)] = 0
    pre_norm: bool = False
    final_norm: bool = True

    @property
    def head_dim(self) -> int:
        """Width of one attention head."""
        return self.block.head_dim or self.dim // self.heads

    @property
    def needs_grid(self) -> bool:
        """Whether attention takes all tokens of a grid alone: none left out, none of others."""
        return self.positions == "relative" or self.decomposed is not None

    @property
    def rotation(self) -> RotaryConfig | None:
        """By what queries and keys turn; None: they do not."""
        return self.rotary or (_AXIAL if self.positions == "rope_2d" else None)

    @property
    def patch_embed(self) -> PatchEmbedConfig:
        """The settings of the patch projection; a stem's projection has the defaults."""
        return self.embed if isinstance(self.embed, PatchEmbedConfig) else PatchEmbedConfig()

    @model_validator(mode="after")
    def _consistent(self) -> ViTConfig:
        if max(self.image_size) > 16384:
            raise ValueError(f"image_size {self.image_size} is over the limit of 16384 pixels a side")
        stride = self.patch_embed.stride or self.patch_size
        num_patches = (self.image_size[0] // stride[0] + 1) * (self.image_size[1] // stride[1] + 1)
        if num_patches * self.dim > 2**27:  # half a gigabyte a layer; a file can claim any size
            raise ValueError(f"some {num_patches:,} patches of dim {self.dim} are too many; enlarge patch_size")
        if self.distillation_token and not self.class_token:
            raise ValueError("distillation_token needs class_token=true")
        if self.positions == "relative" and (self.distillation_token or self.registers):
            raise ValueError("relative positions support no distillation_token or registers; leave them out")
        if self.continuous and (self.positions != "relative" or self.class_token):
            raise ValueError("continuous positions are relative ones of patches alone: no class token, no others")
        if self.block.head_dim is None and self.dim % self.heads:
            raise ValueError(f"dim {self.dim} is not a multiple of heads {self.heads}; set block.head_dim")
        if self.positions == "sincos_1d" and self.dim % 2:
            raise ValueError(f"sincos_1d positions need an even dim, not {self.dim}")
        if self.positions in ("sincos_2d", "sincos_2d_mae") and self.dim % 4:
            raise ValueError(f"{self.positions} positions need a dim that is a multiple of 4, not {self.dim}")
        if self.decomposed is not None and (
            self.class_token or self.registers or self.rotation is not None or self.positions == "relative"
        ):
            raise ValueError("decomposed positions go with patches alone: no class token, registers, rotation or bias")
        if self.rotary is not None and self.positions in ("relative", "none"):
            raise ValueError(f"rotary does not go with positions={self.positions}; set positions=rope_2d")
        if self.rotation is not None and self.head_dim % 4:
            raise ValueError(f"rotary positions need heads whose width is a multiple of 4, not {self.head_dim}")
        return self
