"""Image and patch sizes of a built model: giving it others, and checking that preprocessing matches."""

from __future__ import annotations

import dataclasses

from vitrail.console import note
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.ops.channels import in_words
from vitrail.ops.grid import Pair
from vitrail.tasks import require_tileable
from vitrail.trainable import Embedder, EncoderModule, image_encoder
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


def adapt_channels(task: Embedder, channels: int) -> str | None:
    """Let a task's image encoders take images of other channels, in place; what was done with which kernel, or None.

    Raises:
        UserError: the architecture ties its weights to the channels.
    """
    before = image_encoder(task).config.channels
    if before == channels:
        return None
    for encoder in task.encoders().values():
        if isinstance(encoder, ViT):
            encoder.adapt_channels(channels)
    task.config = dataclasses.replace(task.config, model=image_encoder(task).config)
    return f"the patch kernel {in_words(before, channels)}"


def adapt(
    task: Embedder,
    preprocess: PreprocessConfig,
    image_size: int | Pair | None,
    patch_size: int | Pair | None,
) -> PreprocessConfig:
    """Give ``task`` other native sizes in place, and report what changed; returns the preprocessing to match.

    Raises:
        UserError: sizes that do not go together.
    """
    before = image_encoder(task).config
    resize(task, image_size, patch_size)
    after = image_encoder(task).config
    changed = [
        f"{what} {old} → {new}"
        for what, old, new in (
            ("image size", before.image_size, after.image_size),
            ("patch size", before.patch_size, after.patch_size),
        )
        if old != new
    ]
    if changed:
        note(f"adapted: {', '.join(changed)}; positions resampled ({after.resampling})")
    return dataclasses.replace(preprocess, size=after.image_size)


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
    require_tiles(preprocess, task)


def require_tiles(preprocess: PreprocessConfig, task: EncoderModule) -> None:
    """Check that a task can predict by the tiles of the preprocessing, if it has any.

    Raises:
        UserError: it cannot merge predictions, does not see all of a tile, or patches do not cover one.
    """
    if preprocess.tiles is None:
        return
    require_tileable(task)
    if not preprocess.shows_all:
        raise UserError("the preprocessing cuts the border off each tile; set data.preprocess.resize=square")
    try:
        task.inputs.accepts(preprocess.tiles.size)
    except UserError as error:
        raise UserError(f"tiles: {error}".replace("an image", "one").replace("resize it to", "choose")) from None
