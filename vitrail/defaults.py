"""Settings that a training takes where its user gives none, each with its reason: by the data, the model and the start.

A task states its own in ``Trainable.defaults``. Sizes are (height, width) in pixels.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
from PIL import Image, ImageChops

from vitrail.config import written
from vitrail.data.media.decode import BadImage, decode
from vitrail.data.source import Source
from vitrail.data.targets import Extents
from vitrail.data.transforms.preprocess import Picture, size_of
from vitrail.ops.grid import Pair
from vitrail.vit import ViTConfig

Quality: TypeAlias = Literal["fast", "good", "best"]
"""What a training costs: minutes for points."""
LENGTH: dict[Quality, float] = {"fast": 0.25, "good": 1.0, "best": 2.0}  # of trainings of all parameters
FORWARD = 1 / 3  # of a step's time, without gradients
MEMBERS = 3  # trainings whose weights are averaged
FEW = 5000  # images, up to which small steps and small decoders learn more
MANY = 100_000  # images, from which strong augmentation teaches more than it costs
TOO_FEW = 10_000  # images, below which a ViT learns little from scratch (Dosovitskiy et al. 2021, section 4.3)
NUM_STEPS = 3200  # in which targets with places are learned from few images
EVALUATIONS = 25  # of a training at most: each costs as much as a third of its images in training
LOOKED_AT = 16  # images whose size is read
TOKENS_OF_AN_OBJECT = 1.3  # patches along the side of a small object, so that it has features of its own
SMALL = 0.05  # of the objects, as small ones
SHORTEST, USUAL, LONGEST = 224, 320, 640  # of the input's longer side: of small images, at least, at most


class Choice(NamedTuple):
    """A setting of a run, left out where the user turns the switch ``needs`` off."""

    path: str
    value: object
    reason: str
    needs: str | None = None

    def __str__(self) -> str:
        return f"{self.path}: {written(self.value)} ({self.reason})"


@dataclass(frozen=True)
class Facts:
    """What defaults depend on.

    Attributes:
        num_images: of the training split.
        image_sizes: int64 (n, 2), of a few of them; read where a task or its targets need them.
        objects: of spatial targets that are objects.
        model: the encoder.
        pretrained: whether training starts from weights.
        quality: what the user wants to spend.
        unlabelled: whether those weights have only learned from images without labels.
        batch_size, epochs: where the user sets them, since rates and averages depend on them.
        mirror: whether images are mirrored in training: no augmentation of the user's own says something else.
        grey: whether all those that were looked at are grey.
    """

    num_images: int
    image_sizes: np.ndarray
    objects: Extents | None
    model: ViTConfig
    pretrained: bool
    quality: Quality = "good"
    unlabelled: bool = False
    batch_size: int | None = None
    epochs: int | None = None
    mirror: bool = True
    grey: bool = False

    @classmethod
    def of(
        cls,
        source: Source,
        model: ViTConfig,
        *,
        pretrained: bool,
        quality: Quality = "good",
        unlabelled: bool = False,
        batch_size: int | None = None,
        epochs: int | None = None,
        mirror: bool = True,
        sized: bool = False,
    ) -> Facts:
        """Those of a training split.

        Args:
            sized: look at some images whatever the targets are.
        """
        kind = source.target_kind
        looked_at = list(_looked_at(source, model.channels)) if kind.spatial or sized else []
        image_sizes = np.array([size for size, _ in looked_at], np.int64).reshape(-1, 2)
        extents = kind.extents(source.targets)
        start = pretrained, quality, unlabelled
        grey = bool(looked_at) and all(is_grey for _, is_grey in looked_at)
        return cls(len(source), image_sizes, extents, model, *start, batch_size, epochs, mirror, grey)


def effective(choices: Iterable[Choice], given: Mapping[str, object]) -> list[Choice]:
    """Those that no given setting replaces or makes senseless: explicit values win."""
    paths = set(given) | ({"optimizer.lr"} if "optimizer.base_lr" in given else set())
    sensible = [choice for choice in choices if choice.needs is None or given.get(choice.needs) is not False]
    return [choice for choice in sensible if not any(f"{choice.path}.".startswith(f"{path}.") for path in paths)]


def work(facts: Facts, choices: Iterable[Choice]) -> float:
    """What a training with these settings computes, in steps of an image; one without gradients is a third of one."""
    chosen = {choice.path: choice.value for choice in choices}
    epochs, members = (int(str(chosen.get(name, 1))) for name in ("epochs", "members"))
    frozen, fitted = "freeze" in chosen, "fit_head" in chosen
    return facts.num_images * members * (epochs * (FORWARD if frozen else 1) + FORWARD * fitted)


def quality_in_words(facts: Facts, choose: Callable[[Facts], list[Choice]]) -> str:
    """The quality, and how long those take that take another time, as ``good (fast 5% of the time, best 3 times as
    long)``."""
    own = work(facts, choose(facts))
    others = {each: work(facts, choose(replace(facts, quality=each))) / own for each in get_args(Quality)}
    said = [
        f"{each} {share:.2g} times as long" if share > 1 else f"{each} {share:.0%} of the time"
        for each, share in others.items()
        if share != 1
    ]
    return f"{facts.quality} ({', '.join(said)})" if said else facts.quality


class Length(NamedTuple):
    """How long a training is."""

    batch_size: int
    an_epoch: int  # steps
    epochs: int

    def choices(self, facts: Facts) -> list[Choice]:
        """As settings."""
        images = f"{facts.num_images:,} images are {self.an_epoch:,} steps an epoch"
        return [
            Choice("data.loader.batch_size", self.batch_size, images),
            Choice("epochs", self.epochs, f"{self.epochs * self.an_epoch:,} steps in all"),
        ]


def length(facts: Facts, batch_size: int, num_steps: int, fewest: int, parts: int = 4) -> Length:
    """So many images a step, but at most one of ``parts`` of all, so that any number of them makes steps; and as many
    epochs as ``num_steps`` take, but at least ``fewest``, both by the quality. What the user sets is taken as it is."""
    batch_size = facts.batch_size or max(min(batch_size, facts.num_images // parts), 1)
    an_epoch = max(facts.num_images // batch_size, 1)  # what fills no batch is left out
    factor = LENGTH[facts.quality]
    epochs = max(math.ceil(factor * num_steps / an_epoch), math.ceil(factor * fewest))
    return Length(batch_size, an_epoch, facts.epochs or epochs)


def whole_images(facts: Facts) -> list[Choice]:
    """For targets of images as a whole: classes and numbers."""
    if not facts.pretrained:
        return from_scratch(facts)
    return probing(facts) if facts.quality == "fast" else fine_tuning(facts)


def fine_tuning(facts: Facts) -> list[Choice]:
    """The head first, then all layers with rates that fall towards the input (LP-FT, Kumar et al. 2022; BEiT, Bao et
    al. 2021), few steps, and averaged weights. On held-out photos of flowers a third of the rate, half the steps and
    smoothed labels had a larger loss (benchmarks/RESULTS.md)."""
    model, few = facts.model, facts.num_images < FEW
    # what was learned without labels is far from classes yet: MAE (He et al. 2022) is fine-tuned for 50 to 100 epochs
    num_steps, fewest = (2000, 50) if facts.unlabelled else (200, 5)
    how_long = length(replace(facts, quality="good"), 16 if few else 64, num_steps, fewest)
    batch_size, num_steps = how_long.batch_size, how_long.epochs * how_long.an_epoch
    lr = 3e-4 * math.sqrt(batch_size / 16 * min(192 / model.dim, 1))
    layer_decay = max(0.7, 1 - 0.3 * math.sqrt(12 / model.depth))
    decay = min(max(1 - 10 / num_steps, 0.9), 0.9998)
    return [
        Choice("fit_head", True, "a head fitted first leaves the features as they are"),
        *how_long.choices(facts),
        Choice(
            "optimizer.lr", float(f"{lr:.2g}"), f"of the head, with {batch_size} images a step and {model.dim} wide"
        ),
        Choice("optimizer.layer_decay", round(layer_decay, 2), f"from each of {model.depth} layers to the one before"),
        Choice("schedule.warmup", 0.1, "of the steps, so that the first ones change little"),
        Choice("ema", {"decay": round(decay, 4)}, f"averaged over about {1 / (1 - decay):.0f} of {num_steps:,} steps"),
        Choice("data.augment", "light", "crops of 35 to 100 %, half of them mirrored"),
        Choice("release", "last", "an average at the end of its schedule; few held-out images choose by chance"),
        *(averaging(facts) if facts.quality == "best" else ()),
    ]


def averaging(facts: Facts) -> list[Choice]:
    """What averages cost and give: of trainings their time (Wortsman et al. 2022), of views that of prediction."""
    choices = [Choice("members", MEMBERS, "quality best: trainings with other seeds, whose weights are averaged")]
    if facts.mirror:
        choices.append(Choice("task_options.mirrored", True, "quality best: each image is also seen mirrored"))
    return choices


def probing(facts: Facts) -> list[Choice]:
    """The head alone, on features of the encoder as it is."""
    reason = "quality fast: the head alone"
    return [
        Choice("fit_head", True, reason),
        Choice("freeze", ["backbone"], reason),
        *length(replace(facts, epochs=facts.epochs or 1), 32, 0, fewest=1).choices(facts),
        Choice("optimizer.lr", 1e-5, "it is fitted before"),
        Choice("data.augment", "none", "as it was fitted"),
        Choice("release", "last", "there is one epoch"),
    ]


def from_scratch(facts: Facts) -> list[Choice]:
    """Steps, rate and augmentation by the number of images (Steiner et al. 2022, AugReg)."""
    few, many = facts.num_images < FEW, facts.num_images >= MANY and facts.model.channels in (1, 3)
    return [
        *length(facts, 32 if few else 256 if many else 128, 0, fewest=100).choices(facts),
        Choice("optimizer.lr", 5e-4 if few else 1e-3, f"from scratch on {facts.num_images:,} images"),
        Choice("data.augment", "plain" if many else "light", "strong for many images" if many else "crops, mirrored"),
    ]


def too_few(facts: Facts, data: str) -> str | None:
    """What to tell the user before a training from scratch on few images.

    Args:
        data: as the user named it.
    """
    if facts.pretrained or facts.num_images >= TOO_FEW:
        return None
    return (
        f"{facts.num_images:,} images are few for training a Vision Transformer from scratch; trained weights learn "
        f"more from them and sooner: vitrail train {shlex.quote(data)} --init WEIGHTS (a file, a run, hf://owner/name, "
        "or a name that vitrail models --pretrained lists)"
    )


def spatial(facts: Facts, batch_size: int = 8, num_steps: int = NUM_STEPS) -> list[Choice]:
    """Steps, rates, input, averaging and augmentation for targets with places.

    Args:
        batch_size: where there are few images; else 16.
    """
    start = "from weights" if facts.pretrained else "from scratch"
    how_long = length(facts, batch_size if facts.num_images < FEW else 16, num_steps, fewest=12, parts=1)
    decay = round(min(max(1 - 8 / (how_long.epochs * how_long.an_epoch), 0.9), 0.998), 4)
    return [
        *how_long.choices(facts),
        Choice("evaluate_every", math.ceil(how_long.epochs / EVALUATIONS), f"epochs; {EVALUATIONS} times at most"),
        *image_size(facts),
        Choice("optimizer.lr", 4e-4 if facts.pretrained else 1e-3, f"of what is new, {start}"),
        Choice("optimizer.backbone_lr", 0.25 if facts.pretrained else 1.0, f"of the encoder, as a share, {start}"),
        Choice("ema", {"decay": decay}, f"averaged over the last {1 / (1 - decay):.0f} steps, weights are steadier"),
        Choice("data.scenes", "photos", "scaled by a half to one and a half, mirrored, slightly recoloured"),
    ]


def image_size(facts: Facts) -> list[Choice]:
    """The input's size by the images' aspect and the objects' size; nothing where no image could be read."""
    if not len(facts.image_sizes):
        return []
    height, width = np.median(facts.image_sizes, axis=0).tolist()
    patch = max(facts.model.patch_size)
    aspect = max(height, width) / min(height, width)
    longer, reason = math.sqrt(math.prod(facts.model.image_size) * aspect), "as many pixels as the model's"
    if facts.objects is not None and len(facts.objects.shares):
        sides = np.sqrt(facts.objects.shares.prod(axis=1)) * math.sqrt(height * width)
        small = max(float(np.quantile(sides, SMALL)), 1e-6)
        longer = TOKENS_OF_AN_OBJECT * patch * max(height, width) / small
        reason = f"all but {SMALL:.0%} of the objects are longer than {small:.0f} pixels of {width:.0f} × {height:.0f}"
    most = max(float(height), float(width), SHORTEST)
    longer = min(max(longer, USUAL), LONGEST, most)
    size = _multiple(
        (longer * height / max(height, width), longer * width / max(height, width)), facts.model.patch_size
    )
    return [Choice("model.image_size", size, f"{reason}; the aspect of the images, in whole patches")]


def _multiple(size: tuple[float, float], patch: Pair) -> Pair:
    rows, columns = (max(round(length / side), 1) * side for length, side in zip(size, patch, strict=True))
    return rows, columns


def _is_grey(picture: Picture) -> bool:
    """Whether all channels are the same."""
    if isinstance(picture, Image.Image):
        return all(low == high == 0 for low, high in _differences(picture))
    return bool((picture == picture[:1]).all())


def _differences(picture: Image.Image) -> list[tuple[int, int]]:
    """The extrema of the difference of each channel from the first."""
    first, *others = picture.split()
    return [ImageChops.difference(first, other).getextrema() for other in others]  # type: ignore[misc]


def _looked_at(source: Source, channels: int) -> Iterator[tuple[Pair, bool]]:
    """The size of evenly spaced images, and whether they are grey; of one decoded image at a time. Those that cannot be
    read are for the training to complain about."""
    for index in np.unique(np.linspace(0, len(source) - 1, LOOKED_AT).astype(int)) if len(source) else ():
        try:
            picture = decode(source.read(int(index)), channels, warn=lambda _: None)
        except BadImage:  # or one that a setting makes readable
            continue
        yield size_of(picture), _is_grey(picture)
