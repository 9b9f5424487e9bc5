"""What turns pictures into vectors that are compared: a named and hashed network at a stated input size."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn

from vitrail.data.transforms.preprocess import Picture, Preprocess, to_pixels
from vitrail.errors import UserError
from vitrail.nn.pooling import build_pool
from vitrail.predictor import Predictor
from vitrail.tasks import Task
from vitrail.trainable import image_encoder


@dataclass(frozen=True)
class Extractor:
    """A vector of each picture, whatever the picture's size.

    Attributes:
        name: for people, such as the path of the weights.
        compute: uint8 (B, C, H, W) → (B, D).
        channels: C.
        preprocess: how a picture comes to H × W, quantised to 8 bits; None: ``compute`` takes any size.
        digest: SHA-256 of the weights.
        vector: what of the network it is.
        classes: of scores, the name of each.
    """

    name: str
    compute: Callable[[Tensor], Tensor] = field(repr=False)
    channels: int = 3
    preprocess: Preprocess | None = None
    digest: str = ""
    vector: str = ""
    classes: tuple[str, ...] = ()

    @classmethod
    def of_model(cls, predictor: Predictor, name: str | None = None) -> Extractor:
        """The class token and the mean of the patches after the last layer and its norm; without a class token the
        mean alone.

        Raises:
            UserError: an exported file, or a model that sees pictures by tiles.
        """
        task, preprocess = predictor.task, predictor.preprocess
        _require_weights(predictor)
        vit = image_encoder(task)
        has_class_token = vit.config.class_token
        pool = build_pool("cls_mean" if has_class_token else "mean", vit.config.dim, 1, 1, "gelu", 0.0)

        def compute(pixels: Tensor) -> Tensor:
            (last,) = vit.intermediates(preprocess.finish(pixels).to(predictor.device), [vit.depth - 1], norm=True)
            return cast("Tensor", pool(last.prefix, last.patches))

        vector = "class token and mean of the patches" if has_class_token else "mean of the patches"
        return cls(name or task.name, compute, preprocess.config.channels, preprocess, weights_digest(vit), vector)

    @classmethod
    def of_classes(cls, predictor: Predictor, name: str | None = None) -> Extractor:
        """The score of each class by a classifier.

        Raises:
            UserError: a model that predicts no classes.
        """
        task, preprocess = predictor.task, predictor.preprocess
        if not isinstance(task, Task) or "class" not in task.takes or not task.names:
            raise UserError(f"a model of {task.name!r} does not tell classes apart; give a trained classifier")
        _require_weights(predictor)

        def compute(pixels: Tensor) -> Tensor:
            return task.class_scores(task(preprocess.finish(pixels).to(predictor.device)))

        return cls(
            name or task.name,
            compute,
            preprocess.config.channels,
            preprocess,
            weights_digest(task),
            "scores",
            task.names,
        )

    @classmethod
    def of_module(cls, module: nn.Module, name: str, channels: int = 3) -> Extractor:
        """Any network that takes uint8 (B, C, H, W) of any size and gives (B, D), such as an Inception that resizes by
        itself (the ``feature`` of torchmetrics' measures)."""
        module.eval()
        return cls(name, module, channels, digest=weights_digest(module), vector="output")

    def fit(self, picture: Picture) -> Tensor:
        """The picture as ``compute`` takes it: uint8 (C, H, W)."""
        return to_pixels(picture) if self.preprocess is None else self.preprocess.pixels(picture)

    @torch.inference_mode()
    def __call__(self, pixels: Tensor) -> Tensor:
        """uint8 (B, C, H, W) from :meth:`fit` → (B, D) on the CPU.

        Raises:
            UserError: numbers that are not finite.
        """
        found = self.compute(pixels).cpu()
        found = found if found.dtype == torch.float64 else found.float()
        if not bool(found.isfinite().all()):
            raise UserError(f"{self.name} gives features that are not finite; its weights are damaged or have diverged")
        return found

    def to_dict(self) -> dict[str, object]:
        """What a number needs beside it; plain JSON types."""
        about: dict[str, object] = {"name": self.name, "sha256": self.digest, "vector": self.vector}
        if self.preprocess is None:
            return about
        config = self.preprocess.config
        how = {"size": list(config.size), "resize": config.resize, "crop_pct": config.crop_pct}
        return about | how | {"interpolation": config.interpolation, "channels": config.channels}

    def __str__(self) -> str:
        size = "" if self.preprocess is None else " at " + "×".join(map(str, self.preprocess.config.size))
        return f"{self.name} (sha256 {self.digest[:12]}…), {self.vector}{size}"


def weights_digest(module: nn.Module) -> str:
    """SHA-256 of all parameters and buffers with their names: equal for equal weights, however they are stored."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def _require_weights(predictor: Predictor) -> None:
    if next(predictor.task.parameters()).is_meta:
        raise UserError("an exported file does not give the tokens of its last layer; give the weights it was made of")
    if predictor.preprocess.config.resize == "none":
        raise UserError(f"a model of {predictor.task.name!r} sees pictures by tiles; give one that sees all at once")
