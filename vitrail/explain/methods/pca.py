"""Principal components of patch features as colours: what the model tells apart (DINOv2, Oquab et al. 2024)."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from vitrail.config import config
from vitrail.explain import Colours, PatchMap, layer_index
from vitrail.explain.patch_features import PatchFeatures, patch_features
from vitrail.trainable import EncoderModule

CHANNELS = 3
ENDS = (0.02, 0.98)  # quantiles of a component that become 0 and 1, so that a few outliers do not grey all others


@config
class Options:
    """Of what.

    Args:
        layer: the block whose output tokens are taken (0 is the first, -1 the last).
    """

    layer: int = -1


def suits(task: EncoderModule) -> bool:
    """Every ViT has patch features."""
    return True


def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[PatchMap]:
    """One map: the first three components of the image's own patches as red, green and blue.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such layer, or the encoder's layers merge tokens.
    """
    features = patch_features(task, images, *padding, layer=layer_index(task, options.layer))
    return compare(features, features, options)


def compare(features: PatchFeatures, reference: PatchFeatures, options: Options) -> list[PatchMap]:
    """The same with the components and the range of the reference's patches, so that colours mean the same in both."""
    theirs = reference.values[reference.real]
    mean, directions, share = components(theirs)
    low, high = np.quantile((theirs - mean) @ directions, ENDS, axis=0)
    spread = high - low
    plane = (features.values - mean) @ directions
    colours = np.where(spread > 0, (plane - low) / np.maximum(spread, 1e-12), 0.5).clip(0, 1)
    title = f"PCA of layer {features.layer}, {share:.0%} of the variance"
    return [Colours(title, colours.astype(np.float32).reshape(*features.grid, CHANNELS))]


def components(values: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """Of (N, D): the mean (D,), the first three principal directions (D, 3), and their share of the variance.

    A direction's sign is the one that makes its largest entry positive. What does not exist is 0.
    """
    mean = values.mean(axis=0, dtype=np.float64)
    _, scales, rows = np.linalg.svd(values - mean, full_matrices=False)
    kept = rows[:CHANNELS]
    largest = np.take_along_axis(kept, np.abs(kept).argmax(axis=1)[:, None], axis=1)
    directions = np.zeros((CHANNELS, values.shape[1]))
    directions[: len(kept)] = kept * np.sign(largest)
    variance = scales**2
    total = float(variance.sum())
    return mean, directions.T, float(variance[:CHANNELS].sum()) / total if total > 0 else 0.0
