"""Images in, typed results out: a trained task with the preprocessing that belongs to it.

::

    vitrail.load("runs/birds").predict("photo.jpg").label
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Generic, Literal, TypeAlias, overload
from typing import TypeVar as PlainTypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from typing_extensions import TypeVar

from vitrail.batching import READERS, Compute, Framed, ahead, attempt, stacked
from vitrail.checkpoints import native
from vitrail.data.media.image_like import ImageLike as ImageLike
from vitrail.data.media.image_like import Sample as Sample
from vitrail.data.media.image_like import name_of as name_of
from vitrail.data.media.image_like import open_image, windows_of
from vitrail.data.media.originals import Original, open_original
from vitrail.data.media.samples import viewable
from vitrail.data.media.windows import WindowedTiff
from vitrail.data.transforms.geometry import ImageGeometry, identities
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig, size_of
from vitrail.data.transforms.tiles import TiledPicture
from vitrail.engines import Engine
from vitrail.engines.choose import start
from vitrail.errors import UserError
from vitrail.machine import pick_device
from vitrail.ops.grid import Pair, as_pair
from vitrail.ops.tiles import OVERLAP, TileConfig
from vitrail.predictions import Prediction
from vitrail.sizes import require_fit
from vitrail.tasks import Predicting, Task, Tileable, require_predicting, require_tileable
from vitrail.trainable import Embedder

P = TypeVar("P", bound=Prediction, default=Prediction)
R = PlainTypeVar("R")
I = PlainTypeVar("I", bound=ImageLike)  # noqa: E741
Images: TypeAlias = list[I] | tuple[I, ...]
Vector: TypeAlias = NDArray[np.float32]


class Predictor(Generic[P]):
    """A model with its preprocessing, ready for images. ``P`` is what it predicts for one image.

    Args:
        task: trained; it is moved to ``device`` and put into evaluation mode. A model of a pretraining method embeds
            and does not predict.
        preprocess: from an image of any size to the model's input.
        device: ``auto``, or a torch device.
        metrics: what the weights are known to reach, kept for :meth:`save`.
        engine: what computes in place of the task, which may then be without weights.
        exact: decode JPEGs of many times the input size in full, which takes several times as long. Otherwise they are
            decoded at a half, a quarter or an eighth of their size, and still at twice the input's or more; a pixel of
            the input then differs by less than one grey level on average.

    Raises:
        UserError: the preprocessing makes other images than the task takes.
    """

    @overload
    def __init__(
        self,
        task: Task[P],
        preprocess: PreprocessConfig,
        *,
        device: str | torch.device = ...,
        metrics: dict[str, float] | None = ...,
        engine: Engine | None = ...,
        exact: bool = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: Predictor[Prediction],
        task: Embedder,
        preprocess: PreprocessConfig,
        *,
        device: str | torch.device = ...,
        metrics: dict[str, float] | None = ...,
        engine: Engine | None = ...,
        exact: bool = ...,
    ) -> None: ...
    def __init__(
        self,
        task: Embedder,
        preprocess: PreprocessConfig,
        *,
        device: str | torch.device = "auto",
        metrics: dict[str, float] | None = None,
        engine: Engine | None = None,
        exact: bool = False,
    ) -> None:
        require_fit(preprocess, task)
        self.device = pick_device(device)
        on_meta = next(task.parameters()).is_meta
        self.task: Embedder = task.eval() if on_meta else task.to(self.device).eval()
        self._use(engine)
        self.preprocess = Preprocess(preprocess)
        self.metrics = metrics or {}
        self.exact = exact

    def __repr__(self) -> str:
        size = "×".join(map(str, self.preprocess.config.size))
        names = f", {len(self.classes):,} names" if self.classes else ""
        engine = "" if self._engine is None else f", {type(self._engine).__name__}"
        return f"<Predictor: {self.task.name}{names}, {size} pixels, {self.device}{engine}>"

    @property
    def engine(self) -> Engine:
        """What computes the outputs and the feature vectors: the task itself unless another was given."""
        return self._engine or self.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs; for regression the names of the numbers; () without a head."""
        return self.task.names

    @overload
    def predict(self, images: ImageLike, batch_size: int = ...) -> P: ...
    @overload
    def predict(self, images: Images[I], batch_size: int = ...) -> list[P]: ...
    def predict(self, images: ImageLike | Images[I], batch_size: int = 32) -> P | list[P]:
        """The prediction of one image, or a list of them for a list or tuple of images.

        Raises:
            UserError: an image that cannot be read, named, or a model without a trained head.
        """
        several = images if isinstance(images, list | tuple) else [images]
        found: list[P]
        if self.preprocess.config.tiles is None:
            found = self._each(several, batch_size, self.predict_pixels)
        else:
            found = [self._by_tiles(self._read_for_tiles(image), batch_size) for image in several]
        return found if isinstance(images, list | tuple) else found[0]

    def embed(self, images: ImageLike | Images[I], batch_size: int = 32) -> Vector:
        """The pooled feature vector before the head: (D,) of one image, (N, D) of a list or tuple.

        Raises:
            UserError: an image that cannot be read, named.
        """
        if isinstance(images, list | tuple):
            vectors: list[Vector] = self._each(images, batch_size, self._embed_framed)
            return np.stack(vectors)
        return self._each([images], 1, self._embed_framed)[0]

    @overload
    def stream(
        self, images: Iterable[ImageLike], batch_size: int = ..., *, embed: Literal[False] = ...
    ) -> Iterator[tuple[ImageLike, P | UserError]]: ...
    @overload
    def stream(
        self, images: Iterable[ImageLike], batch_size: int = ..., *, embed: Literal[True]
    ) -> Iterator[tuple[ImageLike, Vector | UserError]]: ...
    def stream(
        self, images: Iterable[ImageLike], batch_size: int = 32, *, embed: bool = False
    ) -> Iterator[tuple[ImageLike, P | Vector | UserError]]:
        """(image, result) in the order of ``images``, which may be endless; files are read ahead in threads.

        An image that cannot be read gives its :class:`UserError` in place of a result.

        Args:
            embed: feature vectors instead of predictions.
        """
        compute: Compute[Any] = self._embed_framed if embed else self.predict_pixels
        with ThreadPoolExecutor(READERS) as pool:
            if self.preprocess.config.tiles is not None and not embed:
                for ((image, read),) in ahead(pool, partial(attempt, self._read_for_tiles), iter(images), 1):
                    yield image, (read if isinstance(read, UserError) else self._by_tiles(read, batch_size))
                return
            for batch in ahead(pool, partial(attempt, self._framed), iter(images), batch_size):
                framed = [each for _, each in batch if not isinstance(each, UserError)]
                results = iter(stacked(framed, compute))
                for image, each in batch:
                    yield image, (each if isinstance(each, UserError) else next(results))

    @torch.inference_mode()
    def predict_pixels(self, pixels: Tensor, geometries: Sequence[ImageGeometry] | None = None) -> list[P]:
        """One prediction per image of a batch uint8 (B, C, H, W) from :meth:`pixels`.

        Args:
            geometries: where these lie in their images (``Preprocess.geometry``). A spatial prediction then is in the
                pixels of its image, and borders that preprocessing added are not attended to. None: they are images.

        Raises:
            UserError: the model was pretrained without labels.
        """
        task: Predicting[Any] = require_predicting(self.task)
        if self.preprocess.config.resize == "none":
            return [self._by_tiles(picture, len(pixels)) for picture in pixels]
        images = self.preprocess.finish(pixels).to(self.device)
        if geometries is None:
            return task.decode(self.engine(images), identities(images))
        return task.decode(self.engine(images, *self._padding(geometries)), geometries)

    @torch.inference_mode()
    def embed_pixels(self, pixels: Tensor) -> list[Vector]:
        """One feature vector (D,) per image of a batch uint8 (B, C, H, W) from :meth:`pixels`."""
        return list(self.engine.embed(self.preprocess.finish(pixels).to(self.device)).float().cpu().numpy())

    def running(self, engine: str, precision: str = "fp32", folder: Path | None = None) -> Predictor[P]:
        """The same in an engine. Arguments and errors as in :func:`vitrail.loading.load`.

        Args:
            folder: a run's ``engines/``, where a graph may lie already.
        """
        return self.with_engine(start(engine, self.task, self.preprocess.config, precision, folder))

    def with_engine(self, engine: Engine) -> Predictor[P]:
        """The same, where ``engine`` computes."""
        other = copy.copy(self)
        other._use(engine)
        return other

    def tiled(self, size: int | Pair | None, overlap: float = OVERLAP) -> Predictor[P]:
        """The same, predicting a picture by overlapping tiles, which are merged; for pictures much larger than the
        model's input. Feature vectors stay those of entire pictures.

        Args:
            size: (height, width) of a tile in pixels of the picture, each shown to the model at its input size; None:
                the picture as a whole.
            overlap: share of a tile that its neighbours show too, from 0 to below 1.

        Raises:
            UserError: a task whose predictions cannot be merged, or tiles that the model does not take.
        """
        tiles = None if size is None else TileConfig(size=as_pair(size), overlap=overlap)
        config = dataclasses.replace(self.preprocess.config, tiles=tiles)
        require_fit(config, self.task)
        other = copy.copy(self)
        other.preprocess = Preprocess(config)
        return other

    def at_threshold(self, threshold: float) -> Predictor[P]:
        """The same, predicting what has at least this score, in place of the threshold that the model was trained with.

        Raises:
            UserError: it is not between 0 and 1, or the task predicts without one.
        """
        if not 0 < threshold < 1:
            raise UserError(f"threshold {threshold:g} is no score between 0 and 1; give one such as 0.1")
        config: Any = self.task.config
        if not hasattr(config, "threshold"):
            raise UserError(f"the task {self.task.name!r} predicts without a threshold of scores; leave it out")
        other = copy.copy(self)
        other.task = copy.copy(self.task)  # its parameters are shared
        other.task.config = dataclasses.replace(config, threshold=threshold)
        return other

    def tensor(self, image: ImageLike) -> Tensor:
        """The model's input of one image, (1, C, H, W) on the device."""
        return self.preprocess(self.read(image))[None].to(self.device)

    def inputs(self, image: ImageLike) -> tuple[Tensor, ...]:
        """What the model takes of one image: (1, C, H, W) and, where it is spatial and borders are added, which pixels
        are border, bool (1, H, W). Errors as in :meth:`read`."""
        pixels, geometry = self._framed(image)
        return self.preprocess.finish(pixels[None]).to(self.device), *self._padding([geometry])

    def pixels(self, image: ImageLike) -> Tensor:
        """The image at the input size, uint8 (C, H, W). Errors as in :meth:`read`."""
        return self._framed(image)[0]

    def read(self, image: ImageLike) -> Picture:
        """The image as it is before preprocessing, with the model's channel count.

        Raises:
            UserError: it cannot be read, with its name.
        """
        config = self.preprocess.config
        return open_image(image, config.channels, reading=config.reading)

    def _framed(self, image: ImageLike) -> Framed:
        """Its pixels and geometry; decoded in full where predictions are in the image's pixels."""
        full = self.exact or self.task.spatial()
        config, enough = self.preprocess.config, None if full else self.preprocess.sufficient
        picture = open_image(image, config.channels, enough, config.reading)
        return self.preprocess.pixels(picture), self.preprocess.geometry(size_of(picture))

    def picture(self, image: ImageLike) -> Image.Image:
        """The image to draw on.

        Raises:
            UserError: it cannot be read, or has a channel count that no picture has.
        """
        picture = self.read(image)
        if isinstance(picture, Tensor):
            raise UserError(f"{name_of(image)} has {len(picture)} channels and cannot be drawn; leave the pictures out")
        return viewable(picture)

    def save(self, path: str | Path) -> None:
        """Write a self-contained weights file (.safetensors) that :func:`vitrail.load` reads."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise UserError(f"weights are saved as .safetensors, not {path.name!r}; name it {path.stem}.safetensors")
        native.save(path, self.task.state_dict(), native.meta_of(self.task, self.preprocess.config, self.metrics))

    def _padding(self, geometries: Sequence[ImageGeometry]) -> tuple[Tensor, ...]:
        padding = self.preprocess.padding(geometries) if self.task.spatial() else ()
        return tuple(each.to(self.device) for each in padding)

    def _use(self, engine: Engine | None) -> None:
        self._engine = None if engine is self.task else engine

    def _each(self, images: Sequence[ImageLike], batch_size: int, compute: Compute[R]) -> list[R]:
        results: list[R] = []
        for first in range(0, len(images), batch_size):
            results += stacked([self._framed(image) for image in images[first : first + batch_size]], compute)
        return results

    def _embed_framed(self, pixels: Tensor, geometries: Sequence[ImageGeometry]) -> list[Vector]:
        return self.embed_pixels(pixels)

    def _read_for_tiles(self, image: ImageLike) -> Picture | WindowedTiff | Original:
        """As :meth:`read`; a TIFF that is too large to be decoded at once is read window by window, and what becomes a
        picture again with all that is to be kept of it."""
        if require_predicting(self.task).keeps_form:
            return open_original(image, self.preprocess.config.channels, self.preprocess.config.reading)
        windows = windows_of(image, self.preprocess.config.channels, self.preprocess.config.reading)
        return self.read(image) if windows is None else windows

    @torch.inference_mode()
    def _by_tiles(self, picture: Picture | WindowedTiff | Original, batch_size: int) -> P:
        task: Tileable[Any] = require_tileable(self.task)
        if isinstance(picture, Original):
            tiled = TiledPicture.of(picture.pixels, self.preprocess, batch_size).to(self.device)
            return task.decode_tiles(tiled.outputs(self.engine), tiled.grid).in_form(picture.form)
        tiled = TiledPicture.of(picture, self.preprocess, batch_size).to(self.device)
        try:
            return task.decode_tiles(tiled.outputs(self.engine), tiled.grid)
        finally:
            if isinstance(picture, WindowedTiff):
                picture.close()
