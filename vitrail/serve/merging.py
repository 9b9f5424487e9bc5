"""Token merging, looked at while it happens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch import Tensor

from vitrail.compress import apply
from vitrail.compress.reduced import ReducedFeatures
from vitrail.errors import UserError
from vitrail.trainable import image_encoder

if TYPE_CHECKING:
    from vitrail.predictor import Predictor


@dataclass(frozen=True)
class Merged:
    """What became of one image's patches."""

    sources: np.ndarray
    """(layers, h, w) int64: the token that each patch has become part of, after each layer."""
    prediction: Any
    """With merging; None where the model predicts nothing."""


@torch.inference_mode()
def merged(predictor: Predictor, pixels: Tensor, r: int) -> list[Merged]:
    """One result an image of a batch uint8 (B, C, H, W), with ``r`` patch tokens merged in each layer (ToMe).

    Raises:
        UserError: more than half of the patches are to be merged in one layer, or a model that cannot merge.
    """
    smaller = apply(predictor, "tome", r=r)
    images = smaller.preprocess.finish(pixels).to(smaller.device)
    layers = cast("list[ReducedFeatures]", image_encoder(smaller.task).intermediates(images))
    sources = torch.stack([each.source for each in layers], dim=1).unflatten(2, layers[0].grid)
    predictions = decided(smaller, pixels) or [None] * len(pixels)
    return [Merged(*each) for each in zip(sources.cpu().numpy(), predictions, strict=True)]


def decided(predictor: Predictor, pixels: Tensor) -> list[Any] | None:
    """Its predictions; None where it was pretrained without labels and can only be asked for embeddings and maps."""
    try:
        return predictor.predict_pixels(pixels)
    except UserError:
        return None
