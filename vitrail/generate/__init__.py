"""The contract of generative models, one a file of this folder: conditions in, images out."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence

from torch import Tensor

from vitrail.trainable import Trainable


class Generative(Trainable):
    """A model that draws images."""

    @abstractmethod
    def sample(self, conditions: Sequence[str] | Tensor, keys: Tensor, *, steps: int, guidance: float) -> Tensor:
        """Images float32 (B, C, H, W), normalised as the model's inputs.

        Args:
            conditions: B class names or prompts, or their indices int64 (B,).
            keys: int64 (B,); each image depends on its own key alone, not on the batch.
            steps: of the sampler.
            guidance: weight of classifier-free guidance (Ho & Salimans 2022); 1: none.
        """
