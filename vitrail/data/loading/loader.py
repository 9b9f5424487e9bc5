"""The loader: batches that depend on (seed, epoch, step, rank) and on nothing else."""

from __future__ import annotations

import os
import signal
import sys
import weakref
from collections.abc import Iterator
from typing import Annotated, Any, Literal, cast

import numpy as np
import torch
from numpy.typing import NDArray
from pydantic import Field, PositiveInt
from torch.utils.data import DataLoader

from vitrail import console
from vitrail.config import config
from vitrail.data.batch import Batch
from vitrail.data.loading.assembly import Assembly
from vitrail.data.loading.sampler import Sampler, Step
from vitrail.data.source import Source
from vitrail.data.transforms.combine import Combine
from vitrail.data.transforms.mix import Mix
from vitrail.data.transforms.preprocess import Preprocess
from vitrail.data.transforms.scene import ImageScenes, ImageTransform, PartsTransform, SceneEvaluation, SceneTransform
from vitrail.data.transforms.tiles import TiledEvaluation
from vitrail.errors import UserError
from vitrail.machine import num_cores

_CACHE_BYTES = 256 * 2**20
_SMALL_PIXELS = 64 * 64  # up to here a cached batch takes the main process less time than a worker's hand-over
_MAX_WORKERS = 8
_GRACE_SECONDS = 30


@config
class LoaderConfig:
    """How samples become batches.

    Attributes:
        batch_size: images in a step, over all processes together.
        workers: loader processes for each training process; 0 loads in the training process itself. ``auto``: 0 for
            small cached images, else one for each core (at most 8).
        prefetch: batches that each worker prepares ahead.
        cache: keep decoded and resized images in memory (in each worker), where the random part of the augmentation
            comes after that; ``auto``: where they take at most 256 MiB.
        balanced: show every class of the training split equally often, images of rare ones several times an epoch.
        passes: how many times each training image comes in an epoch, for few large pictures of which parts are shown;
            not with ``balanced`` or repeated augmentation.
        on_bad: what to do about an unreadable training image; ``skip`` leaves it out, lists it in ``batch["bad"]``, and
            gives up after ``max_bad`` different ones. Nothing ever takes its place, and evaluation always fails.
    """

    batch_size: PositiveInt = 128
    workers: Annotated[int, Field(ge=0)] | Literal["auto"] = "auto"
    prefetch: PositiveInt = 2
    cache: bool | Literal["auto"] = "auto"
    balanced: bool = False
    passes: PositiveInt = 1
    on_bad: Literal["error", "skip"] = "error"
    max_bad: Annotated[int, Field(ge=0)] = 100


class Loader:
    """Batches of a source, epoch by epoch.

    Args:
        transform: a ``Preprocess``, an ``Augment`` or ``Views``; for spatial targets a ``Preprocess`` or a
            ``SceneAugment``.
        train: shuffle, drop the incomplete last batch, and let ``on_bad``, ``mix`` and ``combine`` apply; otherwise
            every sample comes exactly once over all ranks, in order.
        mix, repeats: mixup and CutMix; repeated augmentation.
        combine: in training on spatial targets, scenes made of several.

    Raises:
        UserError: a batch size that does not fit the data or the number of processes.
    """

    def __init__(
        self,
        source: Source,
        transform: ImageTransform | SceneTransform[Any],
        config: LoaderConfig,
        *,
        train: bool,
        seed: int = 0,
        mix: Mix | None = None,
        combine: Combine[Any] | None = None,
        repeats: int = 1,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        self.source, self.config, self.train, self.rank = source, config, train, rank
        self.bad: dict[int, str] = {}
        scenes = _scenes(source, transform, config.batch_size)
        if train and config.passes > 1 and (config.balanced or repeats > 1):
            raise UserError("data.loader.passes goes with neither balanced nor repeats; leave it out")
        by_tiles = not train and scenes.input.tiles is not None  # one picture at a time, in batches of its tiles
        self._plan = _Plan(
            Sampler(
                num_samples=len(source),
                batch_size=world_size if by_tiles else config.batch_size,
                train=train,
                seed=seed,
                repeats=repeats,
                passes=config.passes if train else 1,
                rank=rank,
                world_size=world_size,
                strata=self._strata() if train and config.balanced else None,
            )
        )
        cached = _resolve_cache(config.cache, scenes, len(source))
        self.workers = self._resolve_workers(cached, scenes)
        self._assembly = Assembly(
            source=source,
            transform=scenes,
            seed=seed,
            mix=mix if train and mix else None,
            combine=combine if train and combine else None,
            skip_bad=train and config.on_bad == "skip",
            cached=cached,
            kept_bytes=_CACHE_BYTES if train and config.cache else 0,
        )
        if source.channels == 4 and scenes.input.channels in (1, 3) and rank == 0:
            console.warn(
                f"the images have 4 channels and the model takes {scenes.input.channels}: the last one is taken for "
                "transparency; where it is none, train with --channels 4"
            )
        self._batches: DataLoader[Any] | None = None

    def __len__(self) -> int:
        """Steps in an epoch, for this rank."""
        return len(self._plan.sampler)

    def batches(self, epoch: int = 0, start_step: int = 0) -> Iterator[Batch]:
        """The epoch's batches from ``start_step`` on; one iteration at a time.

        Raises:
            UserError: a bad image (training: more than ``max_bad`` of them), a worker that died.
        """
        self._plan.epoch, self._plan.start_step = epoch, start_step
        if self._batches is None:
            self._batches = self._open()
        mistake = UserError  # a program that ends here has no names of modules any longer
        try:
            for batch in self._batches:
                if isinstance(batch, UserError):
                    raise batch
                self._count_bad(batch)
                yield batch
        except mistake:
            self.close()  # whoever keeps the error keeps this frame, and with it the workers
            raise
        except (RuntimeError, ConnectionError, EOFError) as error:  # the latter: it died handing a batch over
            if (explained := worker_failure(error)) is None:
                raise
            self.close()
            raise explained from None

    def close(self) -> None:
        """End the worker processes; the next iteration starts new ones."""
        if self._batches is not None:
            _end_workers(self._batches)
            self._batches = None

    def _open(self) -> DataLoader[Any]:
        batches: DataLoader[Any] = DataLoader(
            self._assembly,  # type: ignore[arg-type]  # an item is a batch, an index is a step
            sampler=self._plan,
            batch_size=None,
            collate_fn=_unchanged,
            num_workers=self.workers,
            persistent_workers=self.workers > 0,
            prefetch_factor=self.config.prefetch if self.workers else None,
            worker_init_fn=_start_worker,
            pin_memory=torch.cuda.is_available(),
            generator=torch.Generator(),  # without one, every iteration would draw from the global one
        )
        weakref.finalize(self, _end_workers, batches)  # at exit too, before multiprocessing checks for leftovers
        return batches

    def _count_bad(self, batch: Batch) -> None:
        for index, reason in batch.get("bad", ()):
            if index not in self.bad:
                console.warn(f"left out: {reason}")
            self.bad[index] = reason
        if len(self.bad) > self.config.max_bad:
            raise UserError(
                f"{len(self.bad)} unreadable training images are more than data.loader.max_bad={self.config.max_bad}; "
                "repair or remove them (`vitrail data check` lists all), or raise max_bad"
            )

    def _strata(self) -> NDArray[np.int64]:
        """The class of each sample."""
        if not self.source.target_kind.exclusive:
            raise UserError(
                f"a balanced sampler needs one class an image and the data has {self.source.kind!r} labels; leave it "
                "out, or for several labels an image let weights balance the loss"
            )
        counts = self.source.counts()
        if self.rank == 0 and counts is not None and (filled := counts[counts > 0].tolist()):
            console.note(
                f"balanced sampler: {len(filled)} classes of {min(filled):,} to {max(filled):,} images, each shown "
                f"{len(self.source) / len(filled):,.0f} times an epoch"
            )
        return self.source.strata()

    def _resolve_workers(self, cached: bool, transform: SceneTransform[Any]) -> int:
        if self.config.workers != "auto":
            return self.config.workers
        height, width = transform.input.size
        if (
            cached or (self.config.cache and isinstance(transform, PartsTransform))
        ) and height * width <= _SMALL_PIXELS:
            workers, reason = 0, "small images, cached in memory"
        else:
            processes = int(os.environ.get("LOCAL_WORLD_SIZE", 1))
            workers = max(1, min(_MAX_WORKERS, num_cores() // processes))
            reason = f"{num_cores()} cores, {processes} process{'es' if processes > 1 else ''}"
        if self.rank == 0:
            console.note(f"{'training' if self.train else 'evaluation'} loader: workers auto → {workers} ({reason})")
        return workers


def worker_failure(error: Exception) -> UserError | None:
    """The plain error behind torch's "DataLoader worker … is killed", which may strike anywhere in the main thread."""
    if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
        return None
    cause = (str(error) or type(error).__name__).splitlines()[0].rstrip(".")
    return UserError(
        f"a loader process died ({cause}); most often memory ran out: "
        "lower data.loader.workers or data.loader.batch_size, then resume"
    )


class _Plan:
    """What DataLoader takes for a sampler: the steps of the epoch that is set."""

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler
        self.epoch = self.start_step = 0

    def __iter__(self) -> Iterator[Step]:
        return self.sampler.steps(self.epoch, self.start_step)


def _scenes(source: Source, transform: ImageTransform | SceneTransform[Any], batch_size: int) -> SceneTransform[Any]:
    """The transform of images together with their targets."""
    if not source.target_kind.spatial:
        return ImageScenes(cast("ImageTransform", transform))
    if isinstance(transform, Preprocess):
        if (own := source.target_kind.evaluation(transform.input, batch_size)) is not None:
            return own
        if transform.input.tiles is not None:
            return TiledEvaluation(transform.input, source.target_kind, batch_size)
        return SceneEvaluation(transform.input, source.target_kind)
    return cast("SceneTransform[Any]", transform)


def _resolve_cache(wanted: bool | Literal["auto"], transform: SceneTransform[Any], num_samples: int) -> bool:
    height, width = transform.input.size
    if wanted == "auto":
        wanted = num_samples * transform.input.channels * height * width <= _CACHE_BYTES
    return wanted and transform.deterministic


def _unchanged(batch: Any) -> Any:
    return batch


def _start_worker(_: int) -> None:
    """Signals meant for the run go to entire process groups: let the main process decide, and outlive its last save."""
    signal.set_wakeup_fd(-1)  # a training's own, which this process has inherited
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if sys.platform != "win32":
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, lambda *_: signal.alarm(_GRACE_SECONDS))


def _end_workers(batches: DataLoader[Any]) -> None:
    if batches._iterator is not None:
        batches._iterator._shutdown_workers()  # type: ignore[attr-defined]
        batches._iterator = None
