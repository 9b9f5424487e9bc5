"""Queries as tokens of a plain ViT's last blocks (Kerssies et al. 2025, EoMT, section 3.2).

Shapes: B images, Q queries, T tokens with Q queries, P prefix tokens and N patches in this order, D width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vitrail.nn.attend import Attend, Positions
from vitrail.nn.attention import Masked
from vitrail.nn.block import Block

Seen: TypeAlias = Callable[[int, Tensor], Tensor | None]
"""(how many blocks have had queries, tokens B T D) → which patches a query attends to, bool (B, Q, N), or None: all."""


@dataclass(frozen=True)
class QueryTokens:
    """An ``Attend`` by which queries join the tokens before the block ``first``, each with a mask of its own.

    Attributes:
        queries: (Q, D).
        seen: asked before each block that has queries.
        padding: bool (B, N), true where a patch is not the image's; None: no padding.
        plain: runs the blocks, and those with queries that have no mask.
    """

    queries: Tensor
    first: int
    seen: Seen
    padding: Tensor | None
    plain: Attend

    def __call__(self, layer: int, block: Block, x: Tensor, positions: Positions) -> Tensor:
        """B T D → B T D; from the block ``first`` on B Q+T D."""
        if layer < self.first:
            return self.plain(layer, block, x, positions)
        if layer == self.first:
            x = torch.cat((self.queries.to(x.dtype).expand(x.shape[0], -1, -1), x), dim=1)
        seen = self.seen(layer - self.first, x)
        if seen is None:
            return self.plain(layer, block, x, positions)
        y: Tensor = block(x, positions, Masked(self._mask(seen, x.shape[1])))
        return y

    def _mask(self, seen: Tensor, num_tokens: int) -> Tensor:
        """bool (B, 1, T, T), true where a token attends to another one."""
        num_queries, num_patches = seen.shape[1:]
        mask = F.pad(seen, (num_tokens - num_patches, 0), value=True)
        mask = F.pad(mask, (0, 0, 0, num_tokens - num_queries), value=True)
        if self.padding is not None:
            mask = mask & ~F.pad(self.padding, (num_tokens - num_patches, 0))[:, None]
        return mask[:, None]


class MaskAnnealing(nn.Module):
    """The share of queries, block by block, that attend to nothing but the patches of their masks.

    It falls from 1 to 0 during training, in the first block first, so that a trained model needs no masks and runs as a
    plain ViT does (their section 3.3).
    """

    probabilities: Tensor

    def __init__(self, num_blocks: int) -> None:
        super().__init__()
        self.register_buffer("probabilities", torch.ones(num_blocks))
        self._known = (1.0,) * num_blocks
        self.register_load_state_dict_post_hook(MaskAnnealing._read)

    def shares(self) -> tuple[float, ...]:
        """The probabilities as numbers; while a graph is traced, those of the last call or load."""
        if not torch.compiler.is_compiling():
            self._read()
        return self._known

    @torch.no_grad()
    def after_step(self, step: int, num_steps: int) -> None:
        """Block i of n keeps its masks for (i + 1) / (n + 2) of the steps and loses them over as many more, by
        (1 − progress)^0.9."""
        num_blocks = len(self.probabilities)
        duration = num_steps / (num_blocks + 2)
        for block in range(num_blocks):
            progress = min(max((step - (block + 1) * duration) / duration, 0.0), 1.0)
            self.probabilities[block] = (1 - progress) ** 0.9
        self._read()

    def _read(self, *_: Any) -> None:
        if not self.probabilities.is_meta:
            self._known = tuple(self.probabilities.tolist())
