"""Contrastive losses: each sample identifies its partner among the samples of all ranks.

B samples a rank, R ranks, D width. Inputs need not be normalised; the arithmetic is float32 under autocast too.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from vitrail.ops.collective import gathered, rank


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """SimCLR's loss (Chen et al. 2020, equation 1): the partner of a view is the other view of the same image, and it
    is picked among all 2·R·B views but itself.

    Args:
        first, second: two views, (B, D) each.

    Returns:
        The loss and the share of right picks, means over this rank's 2·B views.
    """
    own = normalize(torch.cat((first, second)).float(), dim=1)
    everyone = gathered(own)
    places = _places(own)
    itself = places[:, None] == torch.arange(len(everyone), device=own.device)
    logits = _products(own, everyone).masked_fill(itself, -torch.inf) / temperature
    return _pick(logits, places.roll(len(first)))


def info_nce(queries: Tensor, keys: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """MoCo v3's loss (Chen, Xie and He 2021, algorithm 1) without its factor 2·temperature: the partner of a query is
    the key of the same image, and it is picked among the R·B keys.

    Args:
        queries, keys: (B, D) each, row by row of the same images.

    Returns:
        The loss and the share of right picks, means over this rank's B queries.
    """
    queries, keys = normalize(queries.float(), dim=1), normalize(keys.float(), dim=1)
    return _pick(_products(queries, gathered(keys)) / temperature, _places(keys))


def _pick(logits: Tensor, right: Tensor) -> tuple[Tensor, Tensor]:
    return cross_entropy(logits, right), (logits.argmax(dim=1) == right).float().mean()


def _products(a: Tensor, b: Tensor) -> Tensor:
    with torch.autocast(a.device.type, enabled=False):  # half precision is too coarse for what a temperature divides
        return a @ b.T


def _places(rows: Tensor) -> Tensor:
    """Where this rank's rows are among all."""
    return torch.arange(len(rows), device=rows.device) + rank() * len(rows)
