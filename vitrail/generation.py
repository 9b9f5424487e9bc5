"""What all generative models share: the classes that they are asked for, and defaults for the data at hand."""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np
from torch import Tensor

from vitrail import defaults
from vitrail.config import from_dict, to_dict
from vitrail.data.batch import Batch, tensor_targets
from vitrail.defaults import Choice, Facts
from vitrail.errors import UserError
from vitrail.sampling import SamplerConfig
from vitrail.trainable import Embedder, ModelConfig, Trainable, config_class
from vitrail.vit import ViTConfig

if TYPE_CHECKING:
    from vitrail.data.source import SourceConfig

FEW = 1000  # images, below which a generator remembers them
NUM_STEPS = 4000
LARGEST = 64  # pixels along the side of what is drawn, unless asked for more


class ImageGenerator(Embedder, Trainable):
    """A model that learns to draw images, with or without classes. Its outputs are the features of its encoder."""

    takes: ClassVar[tuple[str, ...]] = ("class", "none")
    monitor: ClassVar[str | None] = None  # no loss tells how good pictures are: the last weights are released
    sized: ClassVar[bool] = True

    @property
    @abstractmethod
    def sampler(self) -> SamplerConfig:
        """How it draws unless told otherwise."""

    @classmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: object, options: Mapping[str, object]
    ) -> ModelConfig:
        """With the classes of the data, if there are any."""
        settings = {**options, "model": to_dict(model), "classes": list(names)}
        made: ModelConfig = from_dict(config_class(cls), settings)
        return made

    @classmethod
    def source(cls, config: SourceConfig) -> SourceConfig:
        """With labels where there are any."""
        return dataclasses.replace(config, labelled="auto") if config.labelled else config

    @classmethod
    def defaults(cls, facts: Facts) -> list[Choice]:
        """A small model on small images, averaged weights, and no changes of images that it should not draw."""
        return generation_defaults(facts)

    @classmethod
    def too_few(cls, facts: Facts, data: str) -> str | None:
        """That it will draw the images themselves."""
        if facts.num_images >= FEW:
            return None
        return (
            f"{facts.num_images:,} images are few for a model that draws: it will remember them rather than draw new "
            "ones; give more, or start from a generator that was trained on many (--init)"
        )

    def forward(self, images: Tensor) -> Tensor:
        """The same."""
        return self.embed(images)

    def forward_with_embedding(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The same, twice."""
        features = self.embed(images)
        return features, features

    def labels(self, batch: Batch) -> Tensor | None:
        """Classes int64 B; None: there are none.

        Raises:
            UserError: the classes of images are mixed.
        """
        if not self.names:
            return None
        labels = tensor_targets(batch)
        if labels.is_floating_point():
            raise UserError(f"{self.name!r} draws one class at a time, so images cannot be mixed: leave mix out")
        return labels.to(batch["images"].device)


def generation_defaults(facts: Facts) -> list[Choice]:
    """Of methods that draw images from scratch; from weights the model stays theirs."""
    how_long = defaults.length(facts, 64, NUM_STEPS, fewest=20)
    steps = how_long.epochs * how_long.an_epoch
    decay = round(min(max(1 - 25 / steps, 0.9), 0.9999), 4)
    mirrored = {"horizontal_flip": 0.5} if facts.mirror and not facts.grey else "none"
    return [
        *([] if facts.pretrained else [model_for(facts)]),
        *how_long.choices(facts),
        Choice("evaluate_every", max(1, how_long.epochs // defaults.EVALUATIONS), "epochs"),
        Choice("data.preprocess.resize", "crop", "the middle of each image, undistorted"),
        Choice("data.preprocess.interpolation", "bicubic", "small images stay sharp"),
        Choice("data.augment", mirrored, "a generator draws what it sees: nothing else is changed"),
        Choice("optimizer.lr", 3e-4 if facts.pretrained else 1e-3, "of a small model"),
        Choice("optimizer.betas", [0.9, 0.95], "as JiT"),
        Choice("optimizer.weight_decay", 0.0, "as JiT"),
        Choice("ema", {"decay": decay}, f"averaged over about {1 / (1 - decay):.0f} of {steps:,} steps"),
        Choice("release", "last", "the loss does not tell how good pictures are"),
    ]


def model_for(facts: Facts) -> Choice:
    """A plain ViT on the pixels of small images: rotary and sine positions, normalised queries and keys (JiT)."""
    median = float(np.median(facts.image_sizes.min(axis=1))) if len(facts.image_sizes) else LARGEST
    side = min(max(int(median), 8), LARGEST)
    patch = next(patch for patch, most in ((2, 16), (4, 32), (8, LARGEST)) if side <= most)
    side -= side % patch
    dim, depth, heads = (128, 6, 4) if side <= 16 else (256, 8, 4)
    settings = {
        "image_size": [side, side],
        "channels": 1 if facts.grey else facts.model.channels,
        "patch_size": [patch, patch],
        "dim": dim,
        "depth": depth,
        "heads": heads,
        "mlp_dim": 4 * dim,
        "positions": "sincos_2d",
        "rotary": {},
        "class_token": False,
        "block": {"qk_norm": True},
    }
    tokens = math.prod((side // patch, side // patch))
    grey = "grey " if facts.grey else ""
    return Choice("model", settings, f"{grey}images of {side} × {side} pixels in {tokens} patches of {patch} × {patch}")
