"""Image and patch sizes of a built model: giving it others, and checking that preprocessing matches."""

from __future__ import annotations

import dataclasses

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.ops.grid import Pair
from vitrail.trainable import Embedder, image_encoder
from vitrail.vit import ViT


def resize(task: Embedder, image_size: int | Pair | None = None, patch_size: int | Pair | None = None) -> None:
    """Give a task's image encoders another native image or patch size in place: positions and kernels are resampled.

    Args:
        image_size, patch_size: pixels, one number for a square or (height, width); None: unchanged.

    Raises:
        UserError: the patches do not cover the image, or a stem whose patch size is fixed.
    """
    for encoder in task.encoders().values():
        if isinstance(encoder, ViT):
            encoder.resize(image_size, patch_size)
    task.after_resize()
    task.config = dataclasses.replace(task.config, model=image_encoder(task).config)


def require_fit(preprocess: PreprocessConfig, task: Embedder) -> None:
    """Check that the preprocessing makes what the model takes: its channels, and a size that it accepts.

    Raises:
        UserError: it does not.
    """
    inputs = task.inputs
    if preprocess.channels != inputs.channels:
        raise UserError(
            f"the preprocessing makes images of {preprocess.channels} channels and the model takes {inputs.channels}; "
            "give both the same"
        )
    inputs.accepts(preprocess.size)
    dataclasses.replace(image_encoder(task).config, image_size=preprocess.size)  # as bounded as a native size
