"""The models run in a process of their own, so that the server survives their crashes and hangs.

The process receives only pixels that are already decoded and resized. It is restarted whenever it ends; pending
requests then fail immediately with :class:`WorkerLost`. It ends with its parent, even where that is killed.
"""

from __future__ import annotations

import asyncio
import math
import signal
import traceback
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch

from vitrail.console import warn
from vitrail.data.transforms.geometry import ImageGeometry, identities
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.explain import methods_for
from vitrail.generate import Generative
from vitrail.predictions import PicturePrediction, Prediction, SpatialPrediction
from vitrail.serve.jobs import Job
from vitrail.serve.jobs.merge import predict_if_trained
from vitrail.serve.limits import Limits
from vitrail.serve.processes import context, show_name
from vitrail.serve.reading import Room
from vitrail.trainable import image_encoder

if TYPE_CHECKING:
    from vitrail.predictor import Predictor

Load: TypeAlias = Callable[[str], "Predictor"]
"""From a path to a predictor; it must survive pickling."""

EXIT_SECONDS = 5.0  # for the process to end by itself
RESTART_DELAYS = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before each attempt; the last one repeats


class WorkerLost(Exception):
    """The models' process ended or hung; it is being restarted."""


@dataclass(frozen=True)
class JobBatch:
    """One batch of a job.

    Attributes:
        model: name of the model.
        pixels: uint8 (B, C, H, W), from ``Preprocess.pixels``.
        geometries: where these lie in their images.
    """

    model: str
    job: Job[Any]
    pixels: np.ndarray
    geometries: Sequence[ImageGeometry]


@dataclass(frozen=True)
class ServedModel:
    """The description of a model that the server publishes.

    Attributes:
        predicts: whether it was trained for a task, not for features alone.
        spatial: whether its predictions have places in the image.
        draws: whether it draws pictures.
        scale: how many times larger the pictures are that it makes; 0: it makes none.
        arrays: name and length of each numeric array of a prediction, where the length is fixed.
        dim: width of an embedding.
        methods: the explanation methods that suit it.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    preprocess: PreprocessConfig
    predicts: bool
    spatial: bool
    draws: bool
    scale: int
    arrays: dict[str, int]
    dim: int
    layers: int
    heads: int
    grid: tuple[int, int]
    class_token: bool
    methods: tuple[str, ...]
    parameters: int

    @property
    def restores(self) -> bool:
        """Whether it predicts pictures, stored as those that they are made of."""
        return self.scale > 0

    @property
    def pixels(self) -> str:
        """Height × width of its input."""
        return " × ".join(map(str, self.preprocess.size))

    @property
    def sees_own_size(self) -> bool:
        """Whether pictures keep their size, whatever it is."""
        return self.preprocess.resize == "none"

    def room(self, limits: Limits, images: int) -> Room | None:
        """Of each of so many images that pictures are made of."""
        if not self.scale:
            return None
        option = f"of which --max-restored {limits.max_restored:,} are made"
        return Room(limits.max_restored // (self.scale**2 * max(images, 1)), option)

    @property
    def room_at_once(self) -> Room | None:
        """Of an image whose features are asked for, where it is not resized: attention costs the square of its size."""
        return (
            Room(math.prod(self.preprocess.size), f"of {self.pixels} that are seen at once")
            if self.sees_own_size
            else None
        )


def describe(name: str, predictor: Predictor) -> ServedModel:
    """The description of a model, which is warmed up by one forward pass of each kind.

    Raises:
        UserError: a model of spatial predictions whose preprocessing adds borders, or that predicts by tiles.
    """
    config, vit = predictor.preprocess.config, image_encoder(predictor.task)
    if config.resize == "pad" and predictor.task.spatial():
        raise UserError(f"{name} would read padding as part of the image; train with resize=square to serve")
    if config.tiles is not None and config.resize != "none":
        raise UserError(
            f"{name} predicts pictures tile by tile, which a server does not; serve what "
            "vitrail.load(…).tiled(None).save(…) writes, which is shown them as a whole"
        )
    pixels = torch.randint(256, (1, config.channels, *config.size), dtype=torch.uint8)
    (embedding,) = predictor.embed_pixels(pixels)
    (prediction,) = predict_if_trained(predictor, pixels, identities(pixels))
    return ServedModel(
        name=name,
        task=predictor.task.name,
        classes=predictor.classes,
        preprocess=config,
        predicts=prediction is not None,
        spatial=predictor.task.spatial(),
        draws=isinstance(predictor.task, Generative),
        scale=prediction.scale if isinstance(prediction, PicturePrediction) else 0,
        arrays={key: len(values) for key, values in arrays(prediction).items()} if prediction else {},
        dim=len(embedding),
        layers=len(vit.blocks),
        heads=vit.config.heads,
        grid=vit.embed.grid(config.size),
        class_token=vit.config.class_token,
        methods=tuple(methods_for(predictor.task)),
        parameters=sum(each.numel() for each in predictor.task.parameters()),
    )


def arrays(prediction: Prediction) -> dict[str, np.ndarray]:
    """The numeric arrays of a prediction by name; none of a spatial one, whose lengths differ between images."""
    if isinstance(prediction, SpatialPrediction):
        return {}
    return {key: value for key, value in vars(prediction).items() if isinstance(value, np.ndarray)}


def work(pipe: Connection, models: Mapping[str, str], load: Load) -> None:
    """The main function of the process: load the models, send their descriptions, then compute batches in order until
    None is received."""
    show_name()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server ends this process once all requests are completed
    with suppress(EOFError, OSError):  # the server is gone
        try:
            predictors = {name: load(path) for name, path in models.items()}
            pipe.send([describe(*item) for item in predictors.items()])
        except UserError as error:
            pipe.send(error)
            return
        while (batch := pipe.recv()) is not None:
            pipe.send(_result(predictors, batch))


def _result(predictors: Mapping[str, Predictor], batch: JobBatch) -> list[Any] | Exception:
    try:
        return batch.job.run(predictors[batch.model], torch.from_numpy(batch.pixels), batch.geometries)
    except UserError as error:
        return error
    except Exception:  # whatever it is, the request must be completed
        traceback.print_exc()
        return RuntimeError("the model failed")


class Worker:
    """The server's side of the process: ``async with Worker(...) as worker: await worker(batch)``.

    Args:
        models: path by name.
        seconds: time limit of a batch, from when it is first in line; a process that exceeds it is considered hung, and
            killed.

    Attributes:
        up: the models are loaded and the process runs.
        served: descriptions by name; kept while the process is down.
        restarts: number of restarts.
    """

    def __init__(self, models: Mapping[str, str], load: Load, seconds: float) -> None:
        self.models, self.load, self.seconds = dict(models), load, seconds
        self.up, self.restarts = False, 0
        self.served: dict[str, ServedModel] = {}
        self._context = context()
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._clock: asyncio.TimerHandle | None = None  # of the first one
        self._sender, self._receiver = ThreadPoolExecutor(1), ThreadPoolExecutor(1)  # pipes block

    async def __aenter__(self) -> Worker:
        """Raises UserError: a model cannot be loaded."""
        try:
            await self._start()
        except EOFError:
            await self._end()
            raise UserError("the models' process ended while loading; see the messages above") from None
        except BaseException:
            await self._end()
            raise
        self._watching = asyncio.create_task(self._watch())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._watching.cancel()
        with suppress(asyncio.CancelledError):
            await self._watching
        if self.up:
            self._sender.submit(self._pipe.send, None)
            await asyncio.to_thread(self._process.join, EXIT_SECONDS)
        await self._end()

    async def __call__(self, batch: JobBatch) -> list[Any]:
        """The results of a batch, one an image, in order.

        Raises:
            WorkerLost: the process is down, or went down meanwhile.
            UserError: options that the model cannot fulfil.
            RuntimeError: the model failed; its process printed the traceback.
        """
        if not self.up:
            raise WorkerLost
        loop = asyncio.get_running_loop()
        pending: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(pending)
        if len(self._waiting) == 1:
            self._start_clock()
        try:
            await loop.run_in_executor(self._sender, self._pipe.send, batch)
            result = await pending
        except OSError:
            raise WorkerLost from None
        if isinstance(result, Exception):
            raise result
        return list(result)

    async def _start(self) -> None:
        self._pipe, theirs = self._context.Pipe()
        arguments = (theirs, self.models, self.load)
        self._process = self._context.Process(target=work, args=arguments, daemon=True, name="vitrail models")
        self._process.start()
        theirs.close()  # so that its end ends our reading
        loaded = await self._receive()
        if isinstance(loaded, Exception):
            raise loaded
        self.served = {each.name: each for each in loaded}
        self.up = True

    async def _end(self) -> None:
        self._lose()
        await self._kill()
        for pool in (self._sender, self._receiver):
            pool.shutdown()

    async def _kill(self) -> None:
        """Kill the process and close its pipe."""
        self._process.kill()
        await asyncio.to_thread(self._process.join)
        self._sender.submit(self._pipe.close)  # after what may still be blocked in it

    async def _receive(self) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._receiver, self._pipe.recv)

    async def _watch(self) -> None:
        """Resolve pending requests in order; restart the process when it ends."""
        while True:
            try:
                while True:
                    self._settle(await self._receive())
            except Exception as error:  # the process ended, or its message cannot be unpickled
                self._lose()
                reason = "ended" if isinstance(error, EOFError | OSError) else f"sent an unreadable message ({error})"
                warn(f"the models' process {reason}; it is restarted")
            await self._restore()

    def _start_clock(self) -> None:
        """Limit the time of the batch that is first in line now, if there is one."""
        if self._clock is not None:
            self._clock.cancel()
            self._clock = None
        if self._waiting:
            loop = asyncio.get_running_loop()
            self._clock = loop.call_later(self.seconds, self._kill_hung, self._process)

    def _kill_hung(self, process: BaseProcess) -> None:
        warn(f"the model did not respond within {self.seconds:g} s; its process is killed")
        self.up = False
        process.kill()

    def _lose(self) -> None:
        """Fail all pending requests."""
        self.up = False
        while self._waiting:
            self._settle(WorkerLost())

    def _settle(self, result: Any) -> None:
        pending = self._waiting.popleft()
        self._start_clock()
        if not pending.done():
            pending.set_result(result)

    async def _restore(self) -> None:
        for pause in chain(RESTART_DELAYS, repeat(RESTART_DELAYS[-1])):
            await self._kill()
            await asyncio.sleep(pause)
            self.restarts += 1
            try:
                return await self._start()
            except (UserError, EOFError, OSError) as error:
                warn(f"the models could not be restarted: {error or 'their process ended'}")
