"""Where an image looks to the model as one of its patches does, or as a patch of another image does."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from vitrail.config import config
from vitrail.explain import Heat, PatchMap, layer_index
from vitrail.explain.maps import limits_of
from vitrail.explain.patch_features import PatchFeatures, patch_features
from vitrail.trainable import EncoderModule


@config
class Options:
    """To what, and in which features.

    Args:
        patch: the patch to compare with, counted row by row; default: the one in the middle.
        layer: the block whose output tokens are compared (0 is the first, -1 the last).
    """

    patch: Annotated[int, Field(ge=0)] | None = None
    layer: int = -1


def suits(task: EncoderModule) -> bool:
    """Every ViT has patch features."""
    return True


def explain(task: EncoderModule, images: Tensor, options: Options, *padding: Tensor) -> list[PatchMap]:
    """One map: the cosine similarity of each patch's features with those of the patch, 0 where it is negative.

    Args:
        images: (1, C, H, W).

    Raises:
        UserError: no such layer or patch, or the encoder's layers merge tokens.
    """
    features = patch_features(task, images, *padding, layer=layer_index(task, options.layer))
    return compare(features, features, options)


def compare(features: PatchFeatures, reference: PatchFeatures, options: Options) -> list[PatchMap]:
    """The same with a patch of the reference, on the scale of the reference's own map. Errors as :func:`explain`."""
    rows, columns = reference.grid
    patch = rows // 2 * columns + columns // 2 if options.patch is None else reference.require_patch(options.patch)
    sought = reference.values[patch]
    own, found = (cosine(each.values, sought).clip(min=0).reshape(each.grid) for each in (reference, features))
    place = f"row {patch // columns + 1}, column {patch % columns + 1}"
    alone = features is reference
    title = f"similar to {place}{'' if alone else ' of the other picture'} at layer {features.layer}"
    return [Heat(title, found, patch=patch if alone else None, limits=limits_of(own))]


def cosine(values: np.ndarray, sought: np.ndarray) -> np.ndarray:
    """(N, D) and (D,) → (N,), 0 where a vector is 0."""
    lengths = np.linalg.norm(values, axis=1) * np.linalg.norm(sought)
    similarity: np.ndarray = (values @ sought) / np.maximum(lengths, 1e-12)
    return similarity
