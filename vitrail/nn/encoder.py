"""The contract of an encoder: what optimisers, sharding and compression ask of it."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import nn


class Encoder(nn.Module, ABC):
    """A stack of transformer blocks with an embedding before and usually a norm after it.

    Attributes:
        blocks: the blocks, first to last; each is compiled, sharded and checkpointed by itself.
    """

    blocks: nn.ModuleList

    @property
    def depth(self) -> int:
        """The number of blocks."""
        return len(self.blocks)

    @abstractmethod
    def parameters_by_layer(self) -> list[list[nn.Parameter]]:
        """All parameters by layer: the embedding's first, then those of each block; ``depth + 1`` lists.

        Layer-wise learning rates decay along this list (Bao et al. 2021, BEiT). The final norm belongs to the last
        block, as in timm.
        """
