"""Conditions in, pictures out: a generative model with its preprocessing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail.build import open_checkpoint
from vitrail.config import from_dict, to_dict
from vitrail.console import Progress, note
from vitrail.data import keyed_random
from vitrail.data.media.image_like import ImageLike, name_of, open_image
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig
from vitrail.errors import UserError, did_you_mean
from vitrail.files import write_new
from vitrail.generate import Generative
from vitrail.machine import pick_device
from vitrail.nn.conditions import NO_CLASS
from vitrail.ops.inverse import Grey, Known, Measurement, Small
from vitrail.predictions.synthetic import EDITED, TRAINED, png_of_synthetic
from vitrail.sampling import SamplerConfig, Start
from vitrail.sizes import require_fit
from vitrail.version import __version__

MOST = 100_000
"""Pictures that one call draws at most."""


@dataclass(frozen=True, repr=False)
class Drawn:
    """A picture that a model drew.

    Attributes:
        label: its class; None: it was drawn without one.
        key: draws the same picture again with the same model and sampler.
        source: what IPTC calls pictures of such an origin.
    """

    image: Image.Image
    label: str | None
    key: int
    sampler: SamplerConfig
    source: str = TRAINED

    def png_bytes(self) -> bytes:
        """A PNG file, marked as drawn by a model."""
        return png_of_synthetic(self.image, f"vitrail {__version__}", self.source)

    def save(self, path: str | Path) -> Path:
        """Write the PNG under this name, or name-2 and so on where the file exists; returns the path."""
        path = Path(path)
        if path.suffix.lower() != ".png":
            raise UserError(f"pictures that a model drew are saved as .png, not {path.name!r}; name it {path.stem}.png")
        return write_new(path, self.png_bytes())

    def to_dict(self) -> dict[str, Any]:
        """``class``, ``key``, ``steps``, ``guidance``, ``size`` (height, width)."""
        sampler = {"sampler": self.sampler.name, "steps": self.sampler.steps, "guidance": self.sampler.guidance}
        return {"class": self.label, "key": self.key, **sampler, "size": [self.image.height, self.image.width]}

    def __repr__(self) -> str:
        label = "" if self.label is None else f"{self.label}, "
        return f"<drawn: {label}{self.image.width} × {self.image.height} pixels, key {self.key}>"

    def _repr_png_(self) -> bytes:
        return self.png_bytes()


@dataclass(frozen=True)
class Guide:
    """What a picture must agree with, and how much of an image it begins from."""

    measurement: Measurement | None = None
    start: Start | None = None


class Generator:
    """A generative model, ready to draw.

    Args:
        task: trained; it is moved to ``device`` and put into evaluation mode.
        preprocess: what images were made the model's input by; drawing goes the other way.
    """

    def __init__(self, task: Generative, preprocess: PreprocessConfig, *, device: str | torch.device = "auto") -> None:
        require_fit(preprocess, task)
        self.device = pick_device(device)
        self.task = task.to(self.device).eval()
        self.preprocess = Preprocess(preprocess)

    def __repr__(self) -> str:
        size, names = "×".join(map(str, self.size)), f", {len(self.classes):,} classes" if self.classes else ""
        return f"<Generator: {self.task.name}{names}, {size} pixels, {self.device}>"

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes that it can be asked for."""
        return self.task.names

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of the pictures."""
        return self.preprocess.config.size

    def sampler(self, **changes: object) -> SamplerConfig:
        """The sampler of the file with these settings, such as ``steps=50``, where they are not None.

        Raises:
            UserError: a value out of its range.
        """
        given = {name: value for name, value in changes.items() if value is not None}
        return from_dict(SamplerConfig, {**to_dict(self.task.sampler), **given}, where="sampler")

    def draw(
        self,
        classes: str | Sequence[str | None] | None = None,
        count: int = 1,
        *,
        seed: int = 0,
        sampler: SamplerConfig | None = None,
        batch_size: int = 64,
        guide: Guide | None = None,
        progress: bool = False,
    ) -> list[Drawn]:
        """Pictures; the same of the same seed, whatever the batch.

        Args:
            classes: one for all, or as many as pictures; None: all classes in turn, where there are any.
            count: how many, where ``classes`` does not say so.
            guide: of :meth:`inpaint` and its likes.

        Raises:
            UserError: an unknown class, or settings that the model does not have.
        """
        labels = self._labels(classes, count)
        keys = keyed_random.keys(seed, "draw", np.arange(len(labels))).view(np.int64)
        return self.draw_keys(labels, keys.tolist(), sampler, batch_size=batch_size, guide=guide, progress=progress)

    @torch.inference_mode()
    def draw_keys(
        self,
        labels: Sequence[str | None],
        keys: Sequence[int],
        sampler: SamplerConfig | None = None,
        *,
        batch_size: int = 64,
        guide: Guide | None = None,
        progress: bool = False,
    ) -> list[Drawn]:
        """A picture of each label and key."""
        sampler, guide = sampler or self.task.sampler, guide or Guide()
        if sampler.guidance != 1 and not self.classes:
            raise UserError("guidance needs a model that was trained with classes; leave it out")
        source = TRAINED if guide == Guide() else EDITED
        drawn: list[Drawn] = []
        with Progress("draw", len(keys), enabled=progress) as bar:
            for first in range(0, len(keys), batch_size):
                some = slice(first, first + batch_size)
                noise = self.task.noise(torch.tensor(keys[some], dtype=torch.int64))
                conditions = torch.tensor([self._index(label) for label in labels[some]], device=self.device)
                images = self.task.draw(noise, conditions, sampler, guide.measurement, guide.start)
                rows = zip(self.pictures(images), labels[some], keys[some], strict=True)
                drawn += [Drawn(image, label, key, sampler, source) for image, label, key in rows]
                bar.advance(len(noise))
        return drawn

    def pictures(self, images: Tensor) -> list[Image.Image]:
        """What the model makes, B C H W → pictures of 8 bits."""
        config = self.preprocess.config
        mean, std = (images.new_tensor(each).reshape(-1, 1, 1) for each in (config.mean, config.std))
        levels = ((images.float() * std + mean) / config.rescale).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
        if levels.shape[1] not in (1, 3, 4):
            raise UserError(f"the model draws {levels.shape[1]} channels, which no picture has; use model.task.sample")
        return [Image.fromarray(each.transpose(1, 2, 0).squeeze()) for each in levels]

    def inpaint(self, image: ImageLike, mask: ImageLike) -> Guide:
        """Draw the white part of a mask; the rest is as in the image.

        Raises:
            UserError: the mask has another size than the image.
        """
        channels = self.preprocess.config.channels
        wanted, found = (_size(open_image(each, channels)) for each in (image, mask))
        if wanted != found:
            raise UserError(
                f"{name_of(mask)} has {found[1]} × {found[0]} pixels and the picture {wanted[1]} × {wanted[0]}; give a "
                "mask of its size"
            )
        white = self.preprocess.pixels(open_image(mask, channels)).float().mean(dim=0) > 127
        return Guide(Known(self._input(image), ~white.to(self.device)))

    def colour(self, image: ImageLike) -> Guide:
        """Draw the colours of a picture's grey values.

        Raises:
            UserError: the model draws no colours.
        """
        if self.preprocess.config.channels != 3:
            raise UserError("the model draws grey pictures, which have no colours")
        return Guide(Grey(self._input(image).mean(dim=0, keepdim=True)))

    def enlarge(self, image: ImageLike) -> Guide:
        """Draw the detail of a small picture, whose sides are a whole part of the model's.

        Raises:
            UserError: they are not.
        """
        picture = open_image(image, self.preprocess.config.channels)
        small = _size(picture)
        scales = {side // part for side, part in zip(self.size, small, strict=True)}
        if any(side % part for side, part in zip(self.size, small, strict=True)) or len(scales) > 1:
            wanted = " or ".join(f"{self.size[1] // n} × {self.size[0] // n}" for n in (2, 4))
            raise UserError(f"a picture of {small[1]} × {small[0]} pixels does not fit; give one of {wanted}")
        own = Preprocess(replace(self.preprocess.config, size=small, resize="square", crop_pct=1.0))
        return Guide(Small(own(picture).to(self.device), scales.pop()))

    def vary(self, image: ImageLike, strength: float = 0.5) -> Guide:
        """Draw pictures that resemble one; ``strength`` from 0 (the same) to 1 (any).

        Raises:
            UserError: a strength out of its range.
        """
        if not 0 < strength <= 1:
            raise UserError(f"strength is above 0 (the same picture) and up to 1 (any), not {strength:g}")
        return Guide(start=Start(self._input(image), 1 - strength))

    @torch.inference_mode()
    def interpolate(
        self, first: int, last: int, count: int = 8, *, label: str | None = None, sampler: SamplerConfig | None = None
    ) -> list[Drawn]:
        """Pictures between those of two keys, along the sphere that their noise lies on (Song et al. 2021, DDIM)."""
        ends = self.task.noise(torch.tensor([first, last])).flatten(1)
        cosine = torch.nn.functional.cosine_similarity(ends[0], ends[1], dim=0).clamp(-1, 1)
        angle, shares = cosine.arccos(), torch.linspace(0, 1, count, device=self.device)[:, None]
        noise = (torch.sin((1 - shares) * angle) * ends[0] + torch.sin(shares * angle) * ends[1]) / torch.sin(angle)
        shaped = noise.unflatten(1, self.task.noise(torch.tensor([first])).shape[1:])
        conditions = torch.full((count,), self._index(label), device=self.device)
        images = self.task.draw(shaped, conditions, sampler)
        return [Drawn(each, label, first, sampler or self.task.sampler) for each in self.pictures(images)]

    def _labels(self, classes: str | Sequence[str | None] | None, count: int) -> list[str | None]:
        if isinstance(classes, str):
            classes = [classes] * count
        elif classes is None:
            classes = [self.classes[number % len(self.classes)] if self.classes else None for number in range(count)]
        if not 0 < len(classes) <= MOST:
            raise UserError(f"draw from 1 to {MOST:,} pictures, not {len(classes):,}")
        for label in classes:
            self._index(label)
        return list(classes)

    def _index(self, label: str | None) -> int:
        if label is None:
            return NO_CLASS
        if not self.classes:
            raise UserError(f"the model draws pictures without classes, so none of {label!r}; leave the class out")
        if label not in self.classes:
            raise UserError(f"the model draws no {label!r}; {did_you_mean(label, self.classes)}")
        return self.classes.index(label)

    def _input(self, image: ImageLike) -> Tensor:
        """C H W on the device, normalised."""
        return self.preprocess(open_image(image, self.preprocess.config.channels)).to(self.device)


def _size(picture: Picture) -> tuple[int, int]:
    return (
        (picture.height, picture.width) if isinstance(picture, Image.Image) else (picture.shape[-2], picture.shape[-1])
    )


def load_generator(
    path: str | Path,
    *,
    device: str | torch.device = "auto",
    allow_pickle: bool = False,
    names: str | Path | None = None,
) -> Generator:
    """The generator of a run folder, a weights file, or another library's folder.

    Args:
        allow_pickle, names: as of :func:`vitrail.load`.

    Raises:
        UserError: nothing there, a damaged file, or a model that draws nothing.
    """
    found = open_checkpoint(path, allow_pickle=allow_pickle, names=None if names is None else str(names))
    if not isinstance(found.task, Generative):
        raise UserError(
            f"{path} holds a model of {found.task.name!r}, which draws no pictures; train one with "
            "`vitrail train DATA --task generation`"
        )
    for line in found.assumed:
        note(line)
    task = found.load()
    assert isinstance(task, Generative)
    return Generator(task, found.preprocess, device=device)
