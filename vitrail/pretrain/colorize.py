"""Colourisation (Zhang et al. 2016): from the lightness of an image, its colours, in Lab.

B batch, H W image, N patches on a grid (h, w), D width, Q colours, S cells of a patch.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

import torch
import torch.nn.functional as F
from pydantic import Field, model_validator
from torch import Tensor, nn

from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.ops.collective import mean_over_ranks
from vitrail.ops.grid import Pair
from vitrail.ops.lab import gamut, lab_to_srgb, srgb_to_lab
from vitrail.ops.patches import patchify, unpatchify
from vitrail.pretrain import Pretraining
from vitrail.self_supervision.panels import Panel
from vitrail.self_supervision.pixels import PixelsConfig
from vitrail.trainable import Losses
from vitrail.vit import ViT

RANGE = 110.0  # about the largest |a| and |b| of sRGB: regression learns from -1 to 1
NEIGHBOURS, SIGMA = 5, 5.0  # soft encoding: over so many colours, by a Gaussian of this deviation in Lab's units
TEMPERATURE = 0.38  # of the annealed mean that makes a colour of a distribution
MOMENTUM = 0.99  # of the running shares of the colours


@config
class Config(PixelsConfig):
    """Args:
    target: a distribution over the 313 colours of the gamut (``classes``), or a and b of every pixel (``regression``).
    cell: classes: side in pixels of the squares that have a distribution each; it divides the patch.
    rebalance: classes: from all pixels alike (0) to each by the inverse of its colour's share (1); the paper's λ is
        1 - rebalance.
    """

    target: Literal["classes", "regression"] = "classes"
    cell: Annotated[int, Field(gt=0)] = 4
    rebalance: Annotated[float, Field(ge=0, lt=1)] = 0.5

    @model_validator(mode="after")
    def _consistent(self) -> Config:
        if self.model.channels != 3:
            raise ValueError(
                f"colour needs images of 3 channels, not {self.model.channels}; choose another method for these"
            )
        if self.model.patch_embed.stride not in (None, self.model.patch_size):
            raise ValueError("every pixel is coloured by one patch; leave out embed.stride")
        if self.target == "classes" and any(patch % self.cell for patch in self.model.patch_size):
            raise ValueError(f"cell {self.cell} does not divide the patch size {self.model.patch_size}; choose another")
        return self


class Regression(nn.Module):
    """Patches B N D → a and b of their pixels; mean squared error (eq. 1)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.patch = config.model.patch_size
        self.output = nn.Linear(config.model.dim, 2 * self.patch[0] * self.patch[1])

    def loss(self, patches: Tensor, ab: Tensor) -> dict[str, Tensor]:
        """(B N D, B 2 H W) → the error where a and b are taken for numbers from -1 to 1."""
        error = self.output(patches).float() - patchify(ab / RANGE, self.patch)
        return {"loss": error.square().mean()}

    def ab(self, patches: Tensor, grid: Pair) -> Tensor:
        """B N D → B 2 H W."""
        return unpatchify(self.output(patches).float() * RANGE, self.patch, grid)


class Classes(nn.Module):
    """Patches B N D → the distribution over Q colours of each of their cells; rebalanced cross-entropy (eq. 2 to 5).

    How rare a colour is, the paper counts on all images beforehand; here a running mean over the batches tells.
    """

    colours: Tensor
    shares: Tensor

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.cell, self.rebalance = config.cell, config.rebalance
        self.cells = config.model.patch_size[0] // self.cell, config.model.patch_size[1] // self.cell
        colours = gamut()
        self.register_buffer("colours", colours, persistent=False)
        self.register_buffer("shares", torch.full((len(colours),), 1 / len(colours)))
        self.output = nn.Linear(config.model.dim, self.cells[0] * self.cells[1] * len(colours))

    def forward(self, patches: Tensor) -> Tensor:
        """B N D → logits B N S Q."""
        return self.output(patches).float().unflatten(-1, (-1, len(self.colours)))

    def loss(self, patches: Tensor, ab: Tensor) -> dict[str, Tensor]:
        """(B N D, B 2 H W) → the loss, and the share of cells whose most probable colour is the nearest one."""
        logits = self(patches)
        mean = patchify(F.avg_pool2d(ab, self.cell), self.cells).unflatten(-1, (2, -1)).transpose(-1, -2)
        near, weights = soft_encode(mean, self.colours)
        nearest = near[..., 0]
        if self.training:
            self._count(nearest)
        error = -(weights * logits.log_softmax(dim=-1).gather(-1, near)).sum(dim=-1)
        accuracy = (logits.argmax(dim=-1) == nearest).float().mean()
        return {"loss": (self.importance()[nearest] * error).mean(), "accuracy": accuracy}

    def importance(self) -> Tensor:
        """What a cell of each colour counts (Q,): 1 on average (eq. 4)."""
        rarity = 1 / (self.rebalance * self.shares + (1 - self.rebalance) / len(self.shares))
        return rarity / (self.shares * rarity).sum()

    def ab(self, patches: Tensor, grid: Pair) -> Tensor:
        """B N D → B 2 H W: the annealed mean of each cell (section 2.3), interpolated."""
        mean = (self(patches) / TEMPERATURE).softmax(dim=-1) @ self.colours
        cells = unpatchify(mean.float().transpose(-1, -2).flatten(2), self.cells, grid)
        return F.interpolate(cells, scale_factor=self.cell, mode="bilinear", align_corners=False)

    @torch.no_grad()
    def _count(self, nearest: Tensor) -> None:
        places = nearest.flatten()
        counts = torch.zeros_like(self.shares).scatter_add_(0, places, torch.ones_like(places, dtype=torch.float32))
        self.shares.lerp_(mean_over_ranks(counts / counts.sum()), 1 - MOMENTUM)


HEADS: dict[str, type[Classes | Regression]] = {"classes": Classes, "regression": Regression}


class Task(Pretraining):
    """An encoder of grey images, and a linear layer to the colours of its patches."""

    config: Config
    head: Classes | Regression

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.vit = ViT(config.model)
        self.head = HEADS[config.target](config)

    @classmethod
    def derived_options(cls, preprocess: PreprocessConfig) -> dict[str, Any]:
        """Mean and standard deviation, to turn the input back into colours."""
        return {"mean": preprocess.mean, "std": preprocess.std}

    def lab(self, images: Tensor) -> Tensor:
        """B 3 H W as the model takes them → Lab."""
        return srgb_to_lab(self.config.pixels(images))

    def patches(self, lab: Tensor) -> Tensor:
        """Lab → what the encoder makes of the grey image of the same lightness, B N D."""
        return self.vit(self.config.normalised(grey(lab))).patches

    def loss(self, batch: Batch) -> Losses:
        """The head's loss."""
        lab = self.lab(batch["images"])
        return self.head.loss(self.patches(lab), lab[:, 1:])

    def show(self, batch: Batch) -> list[Panel]:
        """Grey, with the predicted colours, and the truth."""
        images = batch["images"]
        lab, grid = self.lab(images), self.vit.embed.grid((images.shape[-2], images.shape[-1]))
        predicted = lab_to_srgb(torch.cat((lab[:, :1], self.head.ab(self.patches(lab), grid)), dim=1))
        return [Panel("grey", grey(lab), False), Panel("predicted", predicted, False), Panel("true", images)]


def grey(lab: Tensor) -> Tensor:
    """Lab B 3 H W → the sRGB image without colour, B 3 H W."""
    return lab_to_srgb(torch.cat((lab[:, :1], torch.zeros_like(lab[:, 1:])), dim=1))


def soft_encode(ab: Tensor, colours: Tensor) -> tuple[Tensor, Tensor]:
    """The nearest of some colours, and how much each of them stands for (section 2.2).

    Args:
        ab: (…, 2). colours: (Q, 2).

    Returns:
        Their indices int64 (…, K), nearest first, and weights (…, K) that sum to 1.
    """
    distances = torch.cdist(ab.flatten(0, -2), colours, compute_mode="donot_use_mm_for_euclid_dist")
    near, indices = distances.unflatten(0, ab.shape[:-1]).topk(NEIGHBOURS, largest=False)
    return indices, (-0.5 * (near / SIGMA).square()).softmax(dim=-1)
