"""Which samples make up a step: a pure function of (seed, epoch, step, rank)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrail.data import keyed_random
from vitrail.errors import UserError


@dataclass(frozen=True)
class Step:
    """What one rank loads for one step."""

    epoch: int
    step: int
    index: NDArray[np.int64]  # positions in the source
    repeat: NDArray[np.int64]  # how many times this epoch has shown the sample before (repeated augmentation)


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """The steps of every epoch.

    A step takes ``batch_size`` samples over all ranks; rank r has every world_size-th of them, starting at r, so the
    ranks' shares together are the batch of a single process.
    Training shuffles and drops what does not fill a batch. Evaluation keeps the order and shows every sample exactly
    once: the last step is smaller, and ranks for which nothing is left in it have one step less.

    Repeated augmentation (Hoffer et al. 2019; as in DeiT): each sample comes ``repeats`` times in a row, differently
    augmented and on different ranks, in an epoch that is no longer than before, so it shows 1 / repeats of the samples.

    With ``passes`` each sample comes so many times, spread over an epoch that is as many times longer: of large
    pictures each time another part.

    With ``strata``, the class of each sample, training shows every class equally often.
    """

    num_samples: int
    batch_size: int
    train: bool
    seed: int = 0
    repeats: int = 1
    passes: int = 1
    rank: int = 0
    world_size: int = 1
    strata: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        if self.batch_size % self.world_size:
            raise UserError(
                f"batch_size {self.batch_size} does not divide among {self.world_size} processes; "
                f"set data.loader.batch_size to a multiple of {self.world_size}"
            )
        if self.train and self.batch_size > self.num_shown:
            largest = max(1, self.num_shown // self.world_size) * self.world_size
            raise UserError(
                f"batch_size {self.batch_size} is larger than the {self.num_shown} training images; "
                f"set data.loader.batch_size to {largest} or less"
            )

    @property
    def num_shown(self) -> int:
        """Samples of an epoch, those that come again counted again."""
        return self.num_samples * self.passes if self.train else self.num_samples

    def __len__(self) -> int:
        """Steps in an epoch, for this rank."""
        full, rest = divmod(self.num_shown, self.batch_size)
        return full if self.train else full + (rest > self.rank)

    def order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """The epoch's samples for all ranks: (index, repeat), each (num_shown,)."""
        if not self.train:
            return np.arange(self.num_samples), np.zeros(self.num_samples, dtype=np.int64)
        key = keyed_random.key(self.seed, "order", epoch)
        if self.passes > 1:
            shuffled = keyed_random.permutation(self.num_shown, key)
            return shuffled % self.num_samples, shuffled // self.num_samples
        shuffled = keyed_random.permutation(self.num_samples, key)
        if self.strata is not None:
            shuffled = self._balanced(shuffled, self.strata)[shuffled]
        shown = np.arange(self.num_samples)
        return shuffled[shown // self.repeats], shown % self.repeats

    def _balanced(self, shuffled: NDArray[np.int64], strata: NDArray[np.int64]) -> NDArray[np.int64]:
        """As many samples, every class equally often (Shen et al. 2016, class-aware sampling), and of a class every
        sample, up to one time more or less; class by class."""
        members = [shuffled[strata[shuffled] == label] for label in np.unique(strata)]
        first = int(shuffled[0]) % len(members)  # which classes are shown once more changes from epoch to epoch
        members = members[first:] + members[:first]
        share, rest = divmod(self.num_samples, len(members))
        return np.concatenate([np.resize(own, share + (place < rest)) for place, own in enumerate(members)])

    def steps(self, epoch: int, start_step: int = 0) -> Iterator[Step]:
        """This rank's steps from ``start_step`` on."""
        index, repeat = self.order(epoch)
        for step in range(start_step, len(self)):
            first = step * self.batch_size
            share = slice(first + self.rank, first + self.batch_size, self.world_size)
            yield Step(epoch, step, index[share], repeat[share])
