"""How the layers of an encoder attend.

``ViT.layers(tokens, positions, attend)`` is the one loop over the blocks. What differs between its uses is an
:class:`Attend`, called once per block: attention in windows, masks, attention maps, merging and pruning of tokens.

Shapes: B batch, T tokens, D width.
"""

from __future__ import annotations

from typing import Protocol, TypeAlias

from torch import Tensor

from vitrail.nn.block import Block
from vitrail.nn.located import Positions as Positions
from vitrail.nn.rotary import LayerRotations

Located: TypeAlias = Positions | LayerRotations
"""The same for all layers: one for each, or one for all."""


def at_layer(positions: Located, layer: int) -> Positions:
    """What the attention of one layer needs."""
    return positions.at(layer) if isinstance(positions, LayerRotations) else positions


class Attend(Protocol):
    """Runs one block.

    Most call ``block(x, positions, pattern)`` with an :class:`~vitrail.nn.attention.AttentionPattern`, so that what
    wraps the block's call (sharding, gradient checkpointing, :mod:`vitrail.nn.recording`) stays in force. One that
    changes the tokens between attention and MLP calls ``block.before_attention``, ``block.add_attention`` and
    ``block.feed_forward`` itself.

    The output may have other tokens than the input: they are what the next call gets. An encoder whose queries join
    the tokens in its last layers prepends them at their first layer, and passes ``block`` a pattern with a mask
    (Kerssies et al. 2025, EoMT). Tokens are prepended because rotations belong to the last tokens.

    State lives in the object: make a new one for each pass.
    """

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        """B T D → B T' D.

        Args:
            layer: the block's index, from 0.
            positions: those given to the loop; of learned rotations, the layer's own.
        """


def full(layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
    """Every token attends to all tokens: the plain encoder."""
    y: Tensor = block(x, positions)
    return y
