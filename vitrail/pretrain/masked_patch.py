"""Masked patch prediction (Dosovitskiy et al. 2021, appendix B.1.2): the mean colour of patches that were corrupted.

B batch, C channels, N patches of P pixels, D width.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.sample_random import uniform
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.ops.masking import mask_by_noise, take
from vitrail.ops.patches import patchify, unpatchify
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.panels import Panel
from vitrail.self_supervision.pixels import PixelsConfig
from vitrail.trainable import Losses
from vitrail.vit import ViT

LEVELS = 8  # of a channel: 3 bits
MASKED, SWAPPED = 0.8, 0.1  # of the corrupted patches; the others are kept (Devlin et al. 2019, BERT)


@config
class Config(PixelsConfig):
    """Args:
    mask_ratio: share of the patches that are corrupted.
    """

    mask_ratio: Annotated[float, Field(gt=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.model.embed.kind != "patch" or self.model.embed.stride not in (None, self.model.patch_size):
            raise ValueError("other patches would see what is hidden; choose embed.kind=patch without overlap")
        if self.model.channels > 3:
            raise ValueError(
                f"{LEVELS} levels of {self.model.channels} channels are too many colours; "
                "give images of up to 3 channels or choose mae"
            )
        return self


class Corruption(NamedTuple):
    """What becomes of the patches of each image.

    Attributes:
        places: int64 (B, K), the corrupted ones, whose colour is to be predicted.
        masked: bool (B, N), those of them that become the mask.
        source: int64 (B, N), whose content each of the others shows.
    """

    places: Tensor
    masked: Tensor
    source: Tensor

    @property
    def chosen(self) -> Tensor:
        """bool (B, N), true where a patch is corrupted."""
        return torch.zeros_like(self.masked).scatter(1, self.places, True)

    def applied(self, patches: Tensor, mask: Tensor) -> Tensor:
        """Patches B N D, corrupted.

        Args:
            mask: what stands for a masked one, (D) or anything that broadcasts to it.
        """
        return torch.where(self.masked.unsqueeze(-1), mask.to(patches.dtype), take(patches, self.source))


def corrupt(noise: Tensor, ratio: float) -> Corruption:
    """Choose ``ratio`` of the patches, and for each of them its fate.

    A swapped patch shows another one of the same image: the paper leaves open which image's, and so no image depends
    on its neighbours in the batch.

    Args:
        noise: (B, 3 · N), independent draws from 0 to 1.
    """
    order, fate, other = noise.chunk(3, dim=1)
    mask = mask_by_noise(order, ratio)
    chosen = mask.hidden
    swapped = chosen & (fate >= MASKED) & (fate < MASKED + SWAPPED)
    num = order.shape[1]
    own = torch.arange(num, device=noise.device)
    others = (own + 1 + (other * (num - 1)).long()) % num
    return Corruption(mask.dropped, chosen & (fate < MASKED), torch.where(swapped, others, own))


class Task(Pretraining):
    """An encoder with a mask token, and a linear layer to the classes of colours."""

    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.model)
        self.mask_token = nn.Parameter(torch.empty(config.model.dim))
        self.head = nn.Linear(config.model.dim, LEVELS**config.model.channels)
        nn.init.trunc_normal_(self.mask_token, std=0.02)

    @classmethod
    def derived_options(cls, preprocess: PreprocessConfig) -> dict[str, Any]:
        """Mean and standard deviation, to turn the input back into colours."""
        return {"mean": preprocess.mean, "std": preprocess.std}

    def corruption(self, batch: Batch) -> Corruption:
        """A random one for each image."""
        images = batch["images"]
        grid = self.vit.embed.grid((images.shape[-2], images.shape[-1]))
        return corrupt(uniform(batch["keys"], "corruption", 3 * grid[0] * grid[1], images), self.config.mask_ratio)

    def patches(self, images: Tensor, corruption: Corruption) -> Tensor:
        """B C H W → what the encoder makes of every patch, B N D."""
        corrupted = corruption.applied(self.vit.embed(images), self.mask_token)
        tokens, _, positions = self.vit.tokenise(images, corrupted)
        return self.vit.encode(tokens, positions)[:, self.vit.num_prefix :]

    def target(self, images: Tensor) -> Tensor:
        """The class of every patch's mean colour, int64 (B, N): its levels as the digits of a number."""
        pixels = patchify(self.config.pixels(images), self.config.model.patch_size)
        mean = pixels.unflatten(-1, (self.config.model.channels, -1)).mean(dim=-1)
        return ((mean * LEVELS).long().clamp(max=LEVELS - 1) * self._places(mean)).sum(dim=-1)

    def colours(self, classes: Tensor) -> Tensor:
        """(B, N) → the middle of each class's colours, B N C from 0 to 1."""
        return (classes.unsqueeze(-1) // self._places(classes) % LEVELS + 0.5) / LEVELS

    def loss(self, batch: Batch, corruption: Corruption | None = None) -> Losses:
        """Cross-entropy over the corrupted patches, and the share of them whose class is right."""
        images = batch["images"]
        corruption = self.corruption(batch) if corruption is None else corruption
        logits = self.head(take(self.patches(images, corruption), corruption.places)).float().flatten(0, 1)
        target = self.target(images).gather(1, corruption.places).flatten()
        return {"loss": F.cross_entropy(logits, target), "accuracy": (logits.argmax(dim=-1) == target).float().mean()}

    def show(self, batch: Batch) -> list[Panel]:
        """What it sees, then its colours and the true ones in place of the corrupted patches."""
        images, corruption, patch = batch["images"], self.corruption(batch), self.config.model.patch_size
        grid = self.vit.embed.grid((images.shape[-2], images.shape[-1]))
        pixels, chosen = patchify(self.config.pixels(images), patch), corruption.chosen.unsqueeze(-1)

        def painted(classes: Tensor) -> Tensor:
            colours = self.colours(classes).repeat_interleave(patch[0] * patch[1], dim=-1)
            return torch.where(chosen, colours, pixels)

        panels = {
            "seen": corruption.applied(pixels, pixels.new_tensor(0.5)),
            "predicted colours": painted(self.head(self.patches(images, corruption)).argmax(dim=-1)),
            "true colours": painted(self.target(images)),
        }
        return [Panel(title, unpatchify(each, patch, grid), normalised=False) for title, each in panels.items()]

    def _places(self, like: Tensor) -> Tensor:
        return LEVELS ** torch.arange(self.config.model.channels, device=like.device)
