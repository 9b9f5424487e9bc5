"""The models in a process of their own, so that neither a crash nor a hang of theirs takes the server along.

The process sees only pixels that are decoded and resized already. It is started again whenever it ends; whoever waited
for an answer then gets :class:`WorkerLost` at once. It ends with its parent, even where that is killed.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain, repeat
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
import torch

from vitrail.console import warn
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.explain import explain, methods_for
from vitrail.explain.gaze import gaze
from vitrail.predictions import SpatialPrediction
from vitrail.serve.merging import decided, merged

if TYPE_CHECKING:
    from vitrail.predictor import Predictor

Kind: TypeAlias = Literal["predict", "embed", "explain", "attention", "merge"]
Load: TypeAlias = Callable[[str], "Predictor"]
"""From a path to a predictor; it must survive pickling."""

PATIENCE = 5.0  # seconds for the process to end by itself
PAUSES = (0.0, 1.0, 2.0, 5.0, 10.0, 30.0)  # seconds before each new attempt to start; the last is kept


class WorkerLost(Exception):
    """The process with the models ended or hung; it is being started again."""


@dataclass(frozen=True)
class Job:
    """One batch.

    Attributes:
        pixels: uint8 (B, C, H, W), from ``Preprocess.pixels``.
        options: of the explain method, of ``gaze``, or of ``merged``.
    """

    model: str
    kind: Kind
    pixels: np.ndarray
    options: Mapping[str, Any]


@dataclass(frozen=True)
class Served:
    """What the server says about a model.

    Attributes:
        predicts: it was trained to answer, not only to make features.
        spatial: its answers have places in the image.
        arrays: the numbers of a prediction by name, with how many there are an image, where that is fixed.
        dim: width of an embedding.
        methods: what explains it.
    """

    name: str
    task: str
    classes: tuple[str, ...]
    preprocess: PreprocessConfig
    predicts: bool
    spatial: bool
    arrays: dict[str, int]
    dim: int
    layers: int
    heads: int
    grid: tuple[int, int]
    class_token: bool
    methods: tuple[str, ...]
    parameters: int

    @property
    def pixels(self) -> str:
        """Height × width of its input."""
        return " × ".join(map(str, self.preprocess.size))


def describe(name: str, predictor: Predictor) -> Served:
    """Looks at a model, and warms it up by one forward pass of each kind."""
    config, vit = predictor.preprocess.config, predictor.task.backbone
    if config.resize == "pad" and predictor.task.spatial():
        raise UserError(f"{name} would take the border of images for a part of them; train with resize=square to serve")
    pixels = torch.randint(256, (1, config.channels, *config.size), dtype=torch.uint8)
    (embedding,) = predictor.embed_pixels(pixels)
    (prediction,) = decided(predictor, pixels) or [None]
    return Served(
        name=name,
        task=predictor.task.name,
        classes=predictor.classes,
        preprocess=config,
        predicts=prediction is not None,
        spatial=predictor.task.spatial(),
        arrays={key: len(values) for key, values in arrays(prediction).items()} if prediction else {},
        dim=len(embedding),
        layers=len(vit.blocks),
        heads=vit.config.heads,
        grid=vit.embed.grid(config.size),
        class_token=vit.config.class_token,
        methods=tuple(methods_for(predictor.task)),
        parameters=sum(each.numel() for each in predictor.task.parameters()),
    )


def arrays(prediction: Any) -> dict[str, np.ndarray]:
    """The numbers that a prediction holds, by name; none of what was found, whose count differs from image to image."""
    if isinstance(prediction, SpatialPrediction):
        return {}
    return {key: value for key, value in vars(prediction).items() if isinstance(value, np.ndarray)}


def perform(predictor: Predictor, job: Job) -> list[Any]:
    """One result an image: the task's ``Prediction``, a vector float32 (D,), a list of ``Heat``, what :func:`gaze` or
    what :func:`merged` gives."""
    pixels = torch.from_numpy(job.pixels)
    if job.kind == "predict":
        return predictor.predict_pixels(pixels)
    if job.kind == "embed":
        return predictor.embed_pixels(pixels)
    if job.kind == "merge":
        return merged(predictor, pixels, **job.options)
    images = predictor.preprocess.finish(pixels).to(predictor.device)
    look: Callable[..., Any] = gaze if job.kind == "attention" else explain
    return [look(predictor.task, image[None], **job.options) for image in images]


def work(pipe: Connection, models: Mapping[str, str], load: Load) -> None:
    """The life of the process: load, say what was loaded, answer batches in their order until there are no more."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)  # the server ends this process once all is answered
    with suppress(EOFError, OSError):  # the server is gone
        try:
            predictors = {name: load(path) for name, path in models.items()}
            pipe.send([describe(*item) for item in predictors.items()])
        except UserError as error:
            pipe.send(error)
            return
        while (job := pipe.recv()) is not None:
            pipe.send(_answer(predictors, job))


def _answer(predictors: Mapping[str, Predictor], job: Job) -> list[Any] | Exception:
    try:
        return perform(predictors[job.model], job)
    except UserError as error:
        return error
    except Exception:  # the server must hear of it, whatever it is
        traceback.print_exc()
        return RuntimeError("the model failed")


class Worker:
    """The server's end: ``async with Worker(...) as worker: await worker(job)``.

    Args:
        models: path by name.
        seconds: for the answer to a batch; after that the process is taken for hung, and killed.

    Attributes:
        up: the models are there.
        served: what they are; kept while the process is down.
        restarts: how often it had to be started again.
    """

    def __init__(self, models: Mapping[str, str], load: Load, seconds: float) -> None:
        self.models, self.load, self.seconds = dict(models), load, seconds
        self.up, self.restarts = False, 0
        self.served: dict[str, Served] = {}
        self._context = multiprocessing.get_context("spawn")
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._sender, self._receiver = ThreadPoolExecutor(1), ThreadPoolExecutor(1)  # pipes block

    async def __aenter__(self) -> Worker:
        """Raises UserError: a model cannot be loaded."""
        try:
            await self._start()
        except EOFError:
            await self._end()
            raise UserError("the process with the models ended while loading; see the messages above") from None
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
            await asyncio.to_thread(self._process.join, PATIENCE)
        await self._end()

    async def __call__(self, job: Job) -> list[Any]:
        """The results of a batch, in its order.

        Raises:
            WorkerLost: the process is down, or went down meanwhile.
            UserError: options that the model cannot fulfil.
            RuntimeError: the model failed; its process printed why.
        """
        if not self.up:
            raise WorkerLost
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Any] = loop.create_future()
        self._waiting.append(answer)
        sent = loop.run_in_executor(self._sender, self._pipe.send, job)
        try:
            async with asyncio.timeout(self.seconds):
                await sent
                result = await answer
        except OSError as error:
            if isinstance(error, TimeoutError):
                warn(f"the model did not answer within {self.seconds:g} s; its process is killed")
                self.up = False
                self._process.kill()
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
        await self._bury()
        for pool in (self._sender, self._receiver):
            pool.shutdown()

    async def _bury(self) -> None:
        """The process is gone after this, and its pipe."""
        self._process.kill()
        await asyncio.to_thread(self._process.join)
        self._sender.submit(self._pipe.close)  # after what may still be blocked in it

    async def _receive(self) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._receiver, self._pipe.recv)

    async def _watch(self) -> None:
        """Hands out answers, in the order of the questions; starts the process again when it ends."""
        while True:
            try:
                while True:
                    self._settle(await self._receive())
            except Exception as error:  # its end, or words that nobody understands
                self._lose()
                reason = "ended" if isinstance(error, EOFError | OSError) else f"cannot be understood ({error})"
                warn(f"the process with the models {reason}; it is started again")
            await self._restore()

    def _lose(self) -> None:
        """Nobody waits for an answer that will not come."""
        self.up = False
        while self._waiting:
            self._settle(WorkerLost())

    def _settle(self, result: Any) -> None:
        answer = self._waiting.popleft()
        if not answer.done():
            answer.set_result(result)

    async def _restore(self) -> None:
        for pause in chain(PAUSES, repeat(PAUSES[-1])):
            await self._bury()
            await asyncio.sleep(pause)
            self.restarts += 1
            try:
                return await self._start()
            except (UserError, EOFError, OSError) as error:
                warn(f"the models could not be started again: {error or 'their process ended'}")
