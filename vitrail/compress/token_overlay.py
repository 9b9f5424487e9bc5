"""An image in which patches that became one token have one colour."""

from __future__ import annotations

import numpy as np
from PIL import Image

from vitrail.explain.overlay import Region, fit

EDGE = 0.6  # how far a border between two tokens is lightened


def token_overlay(picture: Image.Image, source: np.ndarray, region: Region) -> Image.Image:
    """The part of the image that the model receives, RGB, each token in the mean colour of its patches.

    Args:
        picture: before preprocessing.
        source: (h, w) int, the token that each patch has become part of: a row of ``ReducedFeatures.source``.
        region: the part that the model receives, from ``Preprocess.region``.
    """
    picture, (left, top, right, bottom) = fit(picture, region)
    pixels = np.asarray(picture.crop((left, top, max(right, left + 1), max(bottom, top + 1))), np.float32)
    height, width = pixels.shape[:2]
    rows, columns = (np.arange(n) * cells // n for n, cells in ((height, source.shape[0]), (width, source.shape[1])))
    tokens = source[rows[:, None], columns]
    counts = np.bincount(tokens.ravel(), minlength=source.max() + 1)
    sums = [np.bincount(tokens.ravel(), band.ravel(), len(counts)) for band in pixels.transpose(2, 0, 1)]
    colours = np.stack(sums, axis=1) / np.maximum(counts, 1)[:, None]
    painted, borders = colours[tokens], _borders(tokens)
    painted[borders] += EDGE * (255 - painted[borders])
    return Image.fromarray(painted.round().astype(np.uint8))


def _borders(tokens: np.ndarray) -> np.ndarray:
    """Where the pixel to the right or below belongs to another token, (H, W) bool."""
    borders = np.zeros(tokens.shape, bool)
    borders[:, :-1] |= tokens[:, :-1] != tokens[:, 1:]
    borders[:-1] |= tokens[:-1] != tokens[1:]
    return borders
