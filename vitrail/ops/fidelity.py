"""How near the distribution of samples is to that of real pictures, by their features, and whether samples are copies.

N real pictures, M samples, D width of the features, float (N, D) and (M, D); all is computed in double precision. No
order of the rows matters, but for that of subsets that are drawn.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

CHUNK = 2**24  # distances held at a time: 128 MiB
PRECISION_NEIGHBOURS, DENSITY_NEIGHBOURS = 3, 5  # of Kynkäänniemi et al. 2019 and of Naeem et al. 2020
EQUAL = 1e-6  # of the spread of the features: as near are equal pictures, up to rounding
SUBSETS, SUBSET_SIZE = 100, 1000  # of Bińkowski et al. 2018
QUANTILE = 0.05  # of the distances of unseen pictures, below which a sample counts as near to a training picture


def frechet_distance(real: Tensor, samples: Tensor) -> float:
    """|μ₁ − μ₂|² + tr(C₁ + C₂ − 2 (C₁ C₂)^½) of two Gaussians with the means and covariances of the features (Heusel
    et al. 2017, equation 6); NaN of fewer than 2 rows.

    With C = RᵀR of each, tr (C₁ C₂)^½ is the sum of the singular values of R₁R₂ᵀ: no covariance is inverted, squared or
    rooted, so covariances without full rank, as of N ≤ D, lose no digits.
    """
    if min(len(real), len(samples)) < 2:
        return float("nan")
    real, samples = real.double(), samples.double()
    first, second = _root_of_covariance(real), _root_of_covariance(samples)
    shift = (real.mean(dim=0) - samples.mean(dim=0)).square().sum()
    common = torch.linalg.svdvals(first @ second.T).sum()
    return float(shift + first.square().sum() + second.square().sum() - 2 * common)


def _root_of_covariance(features: Tensor) -> Tensor:
    """R, (min(N, D), D), with RᵀR the covariance (divided by N − 1)."""
    centred = (features - features.mean(dim=0)) / (len(features) - 1) ** 0.5
    return torch.linalg.qr(centred, mode="r").R if len(centred) > centred.shape[1] else centred


def polynomial_mmd(real: Tensor, samples: Tensor) -> float:
    """The unbiased estimate of the squared maximum mean discrepancy with the kernel (x·y / D + 1)³ (Bińkowski et al.
    2018, section 4): KID. It can be negative; NaN of fewer than 2 rows."""
    if min(len(real), len(samples)) < 2:
        return float("nan")
    real, samples = real.double(), samples.double()
    within = sum(_mean_of_pairs(_kernel(each, each)) for each in (real, samples))
    return float(within - 2 * _kernel(real, samples).mean())


def kernel_distances(
    real: Tensor, samples: Tensor, key: int, subsets: int = SUBSETS, size: int = SUBSET_SIZE
) -> list[float]:
    """:func:`polynomial_mmd` of subsets of both, drawn without replacement; KID is their mean.

    Args:
        key: decides which rows they are.
        size: rows in a subset. Where neither has more, there is one subset: all.
    """
    if max(len(real), len(samples)) <= size:
        return [polynomial_mmd(real, samples)]
    generator = torch.Generator().manual_seed(key & 0x7FFFFFFFFFFFFFFF)

    def some(rows: Tensor) -> Tensor:
        return rows[torch.randperm(len(rows), generator=generator)[:size].to(rows.device)]

    return [polynomial_mmd(some(real), some(samples)) for _ in range(subsets)]


def _kernel(one: Tensor, other: Tensor) -> Tensor:
    return (one @ other.T / one.shape[1] + 1) ** 3


def _mean_of_pairs(kernel: Tensor) -> Tensor:
    """Over pairs of different rows."""
    return (kernel.sum() - kernel.diagonal().sum()) / (len(kernel) * (len(kernel) - 1))


class Neighbourhoods(NamedTuple):
    """Shares of pictures that lie in neighbourhoods of others: a ball around each picture through its k-th nearest
    neighbour of the same set.

    Attributes:
        precision: samples in the ball of any real picture, k = 3 (Kynkäänniemi et al. 2019, equation 2).
        recall: real pictures in the ball of any sample, k = 3.
        density: the mean number of balls of real pictures around a sample, divided by k = 5; it may exceed 1 (Naeem et
            al. 2020, equation 4).
        coverage: real pictures with a sample in their ball, k = 5.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def neighbourhoods(real: Tensor, samples: Tensor) -> Neighbourhoods:
    """All four, from one pass over the distances; a picture on the surface of a ball is in it. NaN of fewer than 2
    rows."""
    if min(len(real), len(samples)) < 2:
        return Neighbourhoods(*[float("nan")] * 4)
    real, samples = _centred(real, samples)
    real_radii, sample_radii = _radii(real), _radii(samples)
    small, large, own = (_kth(real_radii, PRECISION_NEIGHBOURS), _kth(real_radii, DENSITY_NEIGHBOURS),
                         _kth(sample_radii, PRECISION_NEIGHBOURS))  # fmt: skip
    precise = dense = 0.0
    recalled = torch.zeros(len(real), dtype=torch.bool, device=real.device)
    covered = recalled.clone()
    for start, squares in _squared_distances(samples, real):
        in_large = squares <= large
        precise += float((squares <= small).any(dim=1).sum())
        dense += float(in_large.sum())
        covered |= in_large.any(dim=0)
        recalled |= (squares <= own[start : start + len(squares), None]).any(dim=0)
    balls = min(DENSITY_NEIGHBOURS, len(real) - 1) * len(samples)
    return Neighbourhoods(
        precise / len(samples), float(recalled.double().mean()), dense / balls, float(covered.double().mean())
    )


class Memorising(NamedTuple):
    """How much nearer samples are to training pictures than unseen pictures are.

    Attributes:
        share: samples nearer than the 5 % quantile of the unseen pictures' distances: about 0.05 where nothing is
            memorised, 1 where all are copies.
        ratio: the mean distance of samples divided by that of unseen pictures.
    """

    share: float
    ratio: float


def memorising(samples: Tensor, unseen: Tensor, train: Tensor) -> Memorising:
    """Compare the Euclidean distances to the nearest of T training pictures; NaN where more than 5 % of the unseen
    pictures are training pictures, since then nothing is unseen.

    Args:
        samples: (M, D); unseen: real pictures that were not trained on, (N, D); train: (T, D).
    """
    ours, theirs = nearest_distances(samples, train), nearest_distances(unseen, train)
    limit = torch.quantile(theirs, QUANTILE)
    if float(limit) <= EQUAL * float(train.double().std(dim=0).norm()):
        return Memorising(float("nan"), float("nan"))
    return Memorising(float((ours < limit).double().mean()), float(ours.mean() / theirs.mean()))


def nearest_distances(queries: Tensor, known: Tensor) -> Tensor:
    """The Euclidean distance of each query (Q, D) to the nearest known row (N, D): float64 (Q,)."""
    known, queries = _centred(known, queries)
    return torch.cat([squares.amin(dim=1).sqrt() for _, squares in _squared_distances(queries, known)])


def _centred(known: Tensor, queries: Tensor) -> tuple[Tensor, Tensor]:
    """Both less the mean of the known ones, near which products lose the fewest digits."""
    mean = known.double().mean(dim=0)
    return known.double() - mean, queries.double() - mean


def _squared_distances(queries: Tensor, known: Tensor) -> Iterator[tuple[int, Tensor]]:
    """(first query, squared distances of some queries to all known rows), within a bound of memory."""
    step = max(1, CHUNK // len(known))
    lengths = known.square().sum(dim=1)
    for start in range(0, len(queries), step):
        chunk = queries[start : start + step]
        squares = torch.addmm(lengths, chunk, known.T, alpha=-2).add_(chunk.square().sum(dim=1, keepdim=True))
        yield start, squares.clamp_(min=0)


def _radii(features: Tensor) -> Tensor:
    """Squared distances of each row to its nearest others, the nearest first: (N, k), k at most 5 and N − 1."""
    count, found = min(DENSITY_NEIGHBOURS, len(features) - 1), []
    for start, squares in _squared_distances(features, features):
        rows = torch.arange(len(squares), device=squares.device)
        squares[rows, start + rows] = torch.inf
        found.append(squares.topk(count, dim=1, largest=False).values)
    return torch.cat(found)


def _kth(radii: Tensor, k: int) -> Tensor:
    """To the k-th nearest, or of fewer to the last."""
    return radii[:, min(k, radii.shape[1]) - 1]
