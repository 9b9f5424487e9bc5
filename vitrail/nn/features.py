"""The tokens that an encoder makes. Shapes: B batch, T tokens, N patches, D width, (h, w) token grid."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from vitrail.ops.grid import Grid


@dataclass(frozen=True)
class Features:
    """The output of an encoder, or of one of its layers."""

    tokens: Tensor
    """B T D: class token and distillation token (if any), registers, patches."""
    grid: Grid
    """Patches along each axis, such as (h, w)."""
    has_class_token: bool
    num_prefix: int
    num_registers: int

    @property
    def cls(self) -> Tensor | None:
        """The class token, B D."""
        return self.tokens[:, 0] if self.has_class_token else None

    @property
    def prefix(self) -> Tensor:
        """All tokens before the patches, B P D."""
        return self.tokens[:, : self.num_prefix]

    @property
    def registers(self) -> Tensor:
        """B R D."""
        return self.tokens[:, self.num_prefix - self.num_registers : self.num_prefix]

    @property
    def patches(self) -> Tensor:
        """B N D, the last axis of the grid fastest."""
        return self.tokens[:, self.num_prefix :]

    @property
    def map(self) -> Tensor:
        """The patches as a feature map, B D h w (B D t h w of a clip)."""
        return self.patches.transpose(1, 2).unflatten(2, self.grid)
