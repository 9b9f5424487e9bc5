"""How training images with boxes, masks or class maps are changed, and the presets."""

from __future__ import annotations

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, PositiveInt

from vitrail.config import config
from vitrail.data.transforms.batched import PositiveRange
from vitrail.data.transforms.colour import ColourConfig
from vitrail.data.transforms.elastic import ElasticConfig
from vitrail.errors import UserError, did_you_mean
from vitrail.ops.grid import Pair

Probability = Annotated[float, Field(ge=0, le=1)]


@config
class SceneAugmentConfig:
    """What happens to training images with boxes, masks or class maps, in this order. The default does nothing.

    Attributes:
        scale: the image is resized as for inference, times a factor from this range, and then cropped or bordered at
            random (large-scale jitter, Ghiasi et al. 2021: 0.1 to 2); None: it is prepared as for inference.
        scale_probability: how often; else the factor is 1 and the angle 0. Resampling blurs: what must be exact to the
            pixel is learned from images as they are.
        rotate: what is scaled is also turned by −rotate to rotate degrees, and a border takes the place
            of its corners. A box becomes that around the turned mask, or without one around the ellipse within the box.
        elastic: what is scaled is also bent smoothly, or None. Boxes become those around what is bent, as above.
        horizontal_flip, vertical_flip: probabilities.
        quarter_turns: how often an image is turned by 90, 180 or 270 degrees, each as likely; where the input is not
            square, by 180. Nothing is interpolated. For what has no up, such as cells or the ground from the air.
        mosaic: how often four images, each scaled and flipped as above in its part of the input, are put together
            around a random point (Bochkovskiy et al. 2020, as in YOLOX).
        copy_paste: how often half of the objects of another image are put over an image (Ghiasi et al. 2021); needs
            masks.
        mixup: how often an image is the mean of two, with the objects of both (Zhang et al. 2019, as in YOLOX).
        colour: of the pixels alone.
        batch_scale: the height of the input is a factor from this range of the nominal one, drawn for each batch, and
            the width follows; None: always the nominal size.
        multiple: of how many pixels the sides are then multiples; the patch size must divide it.
        close: the share of the training, at its end and in entire epochs, without mosaic, copy-paste, mixup and
            ``batch_scale``: images as they will be seen (YOLOX, D-FINE, DEIM).
    """

    scale: PositiveRange | None = None
    scale_probability: Probability = 1.0
    rotate: Annotated[float, Field(ge=0, le=180)] = 0.0
    elastic: ElasticConfig | None = None
    horizontal_flip: Probability = 0.0
    vertical_flip: Probability = 0.0
    quarter_turns: Probability = 0.0
    mosaic: Probability = 0.0
    copy_paste: Probability = 0.0
    mixup: Probability = 0.0
    colour: ColourConfig = ColourConfig()
    batch_scale: PositiveRange | None = None
    multiple: PositiveInt = 32
    close: Annotated[float, Field(ge=0, lt=1)] = 0.1

    def sizes(self, size: Pair) -> list[Pair]:
        """The (height, width) that a batch may have where the nominal one is ``size``.

        Raises:
            UserError: no multiple lies within the range.
        """
        if self.batch_scale is None:
            return [size]
        step, (low, high) = self.multiple, (round(size[0] * factor, 6) for factor in self.batch_scale)
        heights = [rows * step for rows in range(math.ceil(low / step), math.floor(high / step) + 1) if rows]
        if not heights:
            raise UserError(
                f"data.scenes.batch_scale: no multiple of {step} pixels is between {low:g} and {high:g}; "
                "widen it, or lower data.scenes.multiple"
            )
        return [(height, max(1, round(size[1] * height / size[0] / step)) * step) for height in heights]


SCENE_PRESETS: dict[str, SceneAugmentConfig] = {
    "none": SceneAugmentConfig(),
    # photographs, fine-tuning
    "light": SceneAugmentConfig(scale=(0.8, 1.25), horizontal_flip=0.5),
    # photographs, few of them
    "photos": SceneAugmentConfig(
        scale=(0.5, 1.5), horizontal_flip=0.5, colour=ColourConfig(jitter=(0.2, 0.2, 0.2, 0.02))
    ),
    # handwriting: nothing mirrored
    "digits": SceneAugmentConfig(scale=(0.8, 1.25)),
    # photographs, long training: large-scale jitter
    "large": SceneAugmentConfig(
        scale=(0.1, 2.0), horizontal_flip=0.5, colour=ColourConfig(jitter=(0.3, 0.3, 0.3, 0.05), jitter_probability=0.8)
    ),
    # photographs with boxes or masks, long training: many objects an image, as DEIM's dense one-to-one matching
    "dense": SceneAugmentConfig(
        scale=(0.5, 1.5),
        horizontal_flip=0.5,
        mosaic=0.5,
        mixup=0.5,
        colour=ColourConfig(jitter=(0.3, 0.3, 0.3, 0.05), jitter_probability=0.8),
    ),
    # no up and no down, as under a microscope or from the air
    "any_side": SceneAugmentConfig(
        scale=(0.5, 1.5), horizontal_flip=0.5, vertical_flip=0.5, colour=ColourConfig(jitter=(0.2, 0.2, 0.2, 0.02))
    ),
}


def _by_name(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value not in SCENE_PRESETS:
        raise UserError(f"unknown augmentation of scenes {value!r}; {did_you_mean(value, SCENE_PRESETS)}")
    return SCENE_PRESETS[value]


SceneAugmentation = Annotated[SceneAugmentConfig, BeforeValidator(_by_name)]
"""A SceneAugmentConfig that may be written as a preset's name."""
