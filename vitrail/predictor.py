"""Images in, typed results out: a trained task with the preprocessing that belongs to it.

::

    vitrail.load("runs/birds").predict("photo.jpg").label
"""

from __future__ import annotations

import copy
import dataclasses
import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from vitrail import engines
from vitrail.build import open_checkpoint
from vitrail.checkpoints import native
from vitrail.console import note, printable
from vitrail.data.images.decode import BadImage, decode
from vitrail.data.images.read import read_regular
from vitrail.data.transforms.geometry import ImageGeometry
from vitrail.data.transforms.preprocess import Picture, Preprocess, PreprocessConfig
from vitrail.data.transforms.scene import size_of
from vitrail.engines import Engine
from vitrail.engines._files import open_file
from vitrail.engines._start import PLAIN, start
from vitrail.errors import UserError
from vitrail.ops.patches import Pair
from vitrail.sizes import require_fit, resize
from vitrail.tasks import SpatialPrediction, Task
from vitrail.vit import as_pair


@dataclass(frozen=True)
class Sample:
    """An image that something else reads when its turn comes, as a data source does."""

    name: str
    read: Callable[[], bytes | np.ndarray]


ImageLike: TypeAlias = str | Path | bytes | Image.Image | np.ndarray | Tensor | Sample
"""A file, its bytes, a Pillow image, pixels uint8 (H, W) or (H, W, C), a uint8 tensor (C, H, W), or a sample."""

READERS = 4  # threads that read and decode ahead of the model


class Predictor:
    """A task ready to use.

    Args:
        task: trained; it is moved to ``device`` and put into evaluation mode.
        preprocess: from an image of any size to what the task takes.
        device: ``auto``, or a torch device.
        metrics: what the weights are known to reach, kept for :meth:`save`.
        engine: what computes in place of the task, which may then be without weights.
        exact: decode JPEGs of many times the input size in full, which takes several times as long. Otherwise they are
            decoded at a half, a quarter or an eighth of their size, and still at twice the input's or more; a pixel of
            the input then differs by less than one grey level on average.

    Raises:
        UserError: the preprocessing makes other images than the task takes.
    """

    def __init__(
        self,
        task: Task,
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
        self.task = task.eval() if on_meta else task.to(self.device).eval()
        self._use(engine)
        self.preprocess = Preprocess(preprocess)
        self.metrics = metrics or {}
        self.exact = exact

    @property
    def engine(self) -> Engine:
        """What computes the outputs and the feature vectors: the task itself unless another was given."""
        task: Any = self.task
        return self._engine or task

    @property
    def classes(self) -> tuple[str, ...]:
        """Class names in the order of the outputs; for regression the names of the numbers; () without a head."""
        config = self.task.config
        names: tuple[str, ...] = getattr(config, "classes", ()) or getattr(config, "targets", ())
        return names

    def predict(self, images: ImageLike | list[Any], batch_size: int = 32) -> Any:
        """The task's ``Prediction`` of one image, or a list of them for a list of images.

        Raises:
            UserError: an image that cannot be read, named.
        """
        return self._all(images, batch_size, embed=False)

    def embed(self, images: ImageLike | list[Any], batch_size: int = 32) -> np.ndarray:
        """The pooled feature vector before the head: float32 (D,) of one image, (N, D) of a list.

        Raises:
            UserError: an image that cannot be read, named.
        """
        vectors = self._all(images, batch_size, embed=True)
        return np.stack(vectors) if isinstance(vectors, list) else vectors

    def stream(
        self, images: Iterable[ImageLike], batch_size: int = 32, *, embed: bool = False
    ) -> Iterator[tuple[ImageLike, Any]]:
        """(image, result) in the order of ``images``, which may be endless; files are read ahead in threads.

        An image that cannot be read gives its :class:`UserError` in place of a result.

        Args:
            embed: feature vectors instead of predictions.
        """
        with ThreadPoolExecutor(READERS) as pool:
            for batch in _ahead(pool, self._try, iter(images), batch_size):
                results = iter(self._run([seen for _, seen in batch if not isinstance(seen, UserError)], embed))
                for image, seen in batch:
                    yield image, (seen if isinstance(seen, UserError) else next(results))

    @torch.inference_mode()
    def predict_pixels(self, pixels: Tensor, geometries: Sequence[ImageGeometry] | None = None) -> list[Any]:
        """One ``Prediction`` an image of a batch uint8 (B, C, H, W) from :meth:`pixels`.

        Args:
            geometries: where these lie in their images (``Preprocess.geometry``). A spatial prediction then is in the
                pixels of its image, and borders that preprocessing added are not attended to.
        """
        images, size = self.preprocess.finish(pixels).to(self.device), (pixels.shape[-2], pixels.shape[-1])
        if geometries is None:
            return self.task.decode(self.engine(images), size)
        places = self.preprocess.config.resize == "pad" and self.task.spatial()
        padding = (torch.stack([geometry.padding() for geometry in geometries]).to(self.device),) if places else ()
        found = self.task.decode(self.engine(images, *padding), size)
        return [self.to_original(each, geometry) for each, geometry in zip(found, geometries, strict=True)]

    @torch.inference_mode()
    def embed_pixels(self, pixels: Tensor) -> list[np.ndarray]:
        """One feature vector float32 (D,) an image, of the same."""
        return list(self.engine.embed(self.preprocess.finish(pixels).to(self.device)).float().cpu().numpy())

    def running(self, engine: str, precision: str = "fp32", folder: Path | None = None) -> Predictor:
        """The same in an engine. Arguments and errors as in :func:`load`.

        Args:
            folder: keeps what the engine writes for the next time.
        """
        other = copy.copy(self)
        other._use(start(engine, self.task, self.preprocess.config, precision, folder))
        return other

    @staticmethod
    def to_original(result: Any, geometry: ImageGeometry) -> Any:
        """A prediction of places in the pixels of its image; any other as it is."""
        return result.to_original(geometry) if isinstance(result, SpatialPrediction) else result

    def tensor(self, image: ImageLike) -> Tensor:
        """The model's input of one image, (1, C, H, W) on the device."""
        return self.preprocess(self.read(image))[None].to(self.device)

    def pixels(self, image: ImageLike) -> Tensor:
        """The image at the input size, uint8 (C, H, W). Errors as in :meth:`read`."""
        return self._framed(image)[0]

    def read(self, image: ImageLike) -> Picture:
        """The image as it is before preprocessing, with the model's channel count.

        Raises:
            UserError: it cannot be read, with its name.
        """
        return self._decoded(image, None)

    def _framed(self, image: ImageLike) -> tuple[Tensor, ImageGeometry]:
        """Its pixels at the input size, and where they lie in it; decoded in full where places are asked for."""
        whole = self.exact or self.task.spatial()
        picture = self._decoded(image, None if whole else self.preprocess.sufficient)
        return self.preprocess.pixels(picture), self.preprocess.geometry(size_of(picture))

    def _decoded(self, image: ImageLike, smallest: int | None) -> Picture:
        try:
            return decode(_contents(image), self.preprocess.config.channels, smallest=smallest)
        except BadImage as error:
            raise error.named(name_of(image)) from None
        except OSError as error:  # a Pillow image loads its file only now
            raise UserError(f"{name_of(image)} is damaged: {error}; repair or remove it") from None

    def picture(self, image: ImageLike) -> Image.Image:
        """The image to draw on.

        Raises:
            UserError: it cannot be read, or has a channel count that no picture has.
        """
        picture = self.read(image)
        if isinstance(picture, Tensor):
            raise UserError(f"{name_of(image)} has {len(picture)} channels and cannot be drawn; leave the pictures out")
        return picture

    def save(self, path: str | Path) -> None:
        """Write a self-contained weights file (.safetensors) that :func:`load` reads."""
        path = Path(path)
        if path.suffix != ".safetensors":
            raise UserError(f"weights are saved as .safetensors, not {path.name!r}; name it {path.stem}.safetensors")
        native.save(path, self.task.state_dict(), native.meta_of(self.task, self.preprocess.config, self.metrics))

    def _use(self, engine: Engine | None) -> None:
        self._engine = None if engine is self.task else engine

    def _all(self, images: Any, batch_size: int, *, embed: bool) -> Any:
        single = not isinstance(images, list | tuple)
        results: list[Any] = []
        for first in range(0, 1 if single else len(images), batch_size):
            batch = [images] if single else images[first : first + batch_size]
            results += self._run([self._framed(image) for image in batch], embed)
        return results[0] if single else results

    def _run(self, seen: list[tuple[Tensor, ImageGeometry]], embed: bool) -> list[Any]:
        """A result for each pair of pixels and geometry."""
        if not seen:
            return []
        pixels, geometries = torch.stack([each for each, _ in seen]), [geometry for _, geometry in seen]
        return self.embed_pixels(pixels) if embed else self.predict_pixels(pixels, geometries)

    def _try(self, image: ImageLike) -> tuple[ImageLike, tuple[Tensor, ImageGeometry] | UserError]:
        try:
            return image, self._framed(image)
        except UserError as error:
            return image, error


def load(
    path: str | Path,
    *,
    image_size: int | Pair | None = None,
    patch_size: int | Pair | None = None,
    device: str | torch.device = "auto",
    allow_pickle: bool = False,
    engine: str | None = None,
    precision: str = "fp32",
    exact: bool = False,
) -> Predictor:
    """The predictor of a run folder (its best weights, else its last), a weights file, another library's folder, or a
    file that ``vitrail export`` wrote.

    Every adaptation of another library's weights is printed.

    Args:
        image_size: another native (height, width) in pixels; positions are resampled by the rule of the source.
        patch_size: another patch; its kernel is resized by the pseudo-inverse (Beyer et al. 2023, FlexiViT).
        allow_pickle: accept files of torch.save, read in a child process that cannot run what is in them, and .pt2
            files, which can run code.
        engine: what runs the model (:mod:`vitrail.engines`), or ``auto`` for the one that is measured to be the
            fastest; default: PyTorch, ``eager``, and for an exported file its own. Graphs and measurements are kept in
            a run folder's ``engines/``.
        precision: ``fp32``, or ``bf16`` and ``fp16`` where the engine has them.
        exact: decode large JPEGs in full; see :class:`Predictor`.

    Raises:
        UserError: nothing there, a file that is damaged, hostile or of no known dialect, or an engine that is not
            installed or cannot hold the model.
    """
    if (own := engines.of_file(path)) is not None:
        if engine not in (None, "auto", own) or patch_size is not None or str(device) not in ("auto", "cpu"):
            raise UserError(f"{name_of(path)} runs in {own} on the CPU; leave out engine, device and patch size")
        file = open_file(path, precision, allow_pickle=allow_pickle)
        size = file.preprocess.size if image_size is None else as_pair(image_size)
        file.engine.require(size)
        preprocess = dataclasses.replace(file.preprocess, size=size)
        return Predictor(file.task, preprocess, device="cpu", metrics=file.metrics, engine=file.engine, exact=exact)
    device = _device_for(engine, precision, device)
    found = open_checkpoint(path, allow_pickle=allow_pickle)
    for line in found.assumed:
        note(line)
    task, preprocess = found.load(), found.preprocess
    if image_size is not None or patch_size is not None:
        preprocess = adapt(task, preprocess, image_size, patch_size)
    folder = Path(path) / "engines" if (Path(path) / "config.yaml").is_file() else None
    plain = Predictor(task, preprocess, device=device, metrics=found.metrics, exact=exact)
    return plain.running(engine or PLAIN, precision, folder)


def adapt(
    task: Task,
    preprocess: PreprocessConfig,
    image_size: int | Pair | None,
    patch_size: int | Pair | None,
) -> PreprocessConfig:
    """Give ``task`` other native sizes in place, and say what changed; returns the preprocessing to match.

    Raises:
        UserError: sizes that do not go together.
    """
    before = task.vit.config
    resize(task, image_size, patch_size)
    after = task.vit.config
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


def pick_device(device: str | torch.device) -> torch.device:
    """``auto`` takes the accelerator that is there, else the CPU, and says which.

    Raises:
        UserError: no such device.
    """
    if device != "auto":
        try:
            return torch.empty(0, device=device).device
        except (RuntimeError, AssertionError) as error:
            reason = str(error).splitlines()[0]
            raise UserError(f"device {str(device)!r} cannot be used ({reason}); try --device auto") from None
    found = torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    note(f"device auto: {found.type}")
    return found


def _device_for(engine: str | None, precision: str, device: str | torch.device) -> torch.device:
    """The device, if the engine runs on it; graphs run on the CPU."""
    if engine in (None, "auto") or not hasattr(engines.load(engine, precision), "SUFFIX"):
        return pick_device(device)
    if str(device) not in ("auto", "cpu"):
        raise UserError(f"the engine {engine!r} runs on the CPU, not on {str(device)!r}; leave out one of the two")
    return torch.device("cpu")


def name_of(image: ImageLike) -> str:
    """What to call an image before people."""
    if isinstance(image, Sample):
        return image.name
    return printable(str(image)) if isinstance(image, str | Path) else f"the {type(image).__name__} given"


def _ahead(
    pool: ThreadPoolExecutor, function: Callable[[Any], Any], items: Iterator[Any], size: int
) -> Iterator[list[Any]]:
    """Batches of ``function(item)``, one batch computed ahead."""
    waiting: deque[list[Future[Any]]] = deque()
    while True:
        batch = [pool.submit(function, item) for item in islice(items, size)]
        waiting.append(batch)
        if len(waiting) > 1:
            yield [future.result() for future in waiting.popleft()]
        if not batch:
            return


def _contents(image: ImageLike) -> bytes | np.ndarray:
    """What ``decode`` takes."""
    if isinstance(image, str | Path):
        return read_regular(image)
    if isinstance(image, Image.Image):
        return _encoded(image) if image.mode not in ("L", "RGB") or image.getexif() else np.asarray(image)
    if isinstance(image, Tensor):
        if image.ndim != 3:
            raise UserError(
                f"a tensor of shape {tuple(image.shape)} is no image; give uint8 (C, H, W), or a list of them"
            )
        return image.permute(1, 2, 0).cpu().numpy()
    if isinstance(image, Sample):
        return image.read()
    if isinstance(image, bytes | np.ndarray):
        return image
    raise UserError(f"{type(image).__name__} is no image; give a path, a Pillow image, an array or a tensor")


def _encoded(image: Image.Image) -> bytes:
    """A Pillow image as a file without loss, so that one place decides on palettes, transparency and orientation."""
    buffer = io.BytesIO()
    kind = "TIFF" if image.mode in ("CMYK", "F", "YCbCr", "LAB") else "PNG"
    image.save(buffer, kind, compress_level=1, exif=image.getexif())
    return buffer.getvalue()
