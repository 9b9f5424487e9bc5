"""Int8 files: post-training quantisation with calibration images, within a budget of accuracy.

::

    vitrail.quantize(vitrail.load("runs/birds"), "birds.xml", images)

The linear layers of the blocks, which do nearly all the work, compute in int8; what is between them, the patch
projection and the head stay as they are. ``formats/`` holds one format a file, named as its engine: its module defines
``FORMAT``, an :class:`Int8Format`.
"""

from __future__ import annotations

import copy
import dataclasses
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from torch import Tensor

from vitrail import engines, registry
from vitrail.console import note
from vitrail.data.source import Source
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines import Engine, FileFormat
from vitrail.engines.choose import BATCH, measure
from vitrail.engines.graph import Graph, writing
from vitrail.errors import UserError
from vitrail.files import require_free
from vitrail.int8.noise import worst_first
from vitrail.int8.scores import Score, accuracy, agreement
from vitrail.int8.smoothing import smooth
from vitrail.machine import sums_of_int8_overflow
from vitrail.predictor import ImageLike, Predictor
from vitrail.results import Column, ResultTable, Tabular, size_text
from vitrail.trainable import Embedder

PARTS = 2  # times the size of training: how much of a picture that keeps its size is looked at


@dataclass(frozen=True)
class Row:
    """One way to run the model.

    Attributes:
        points: of the score, 0 to 100, or dB.
        milliseconds: of a batch of eight images.
        megabytes: of the file.
    """

    model: str
    points: float
    milliseconds: float
    megabytes: float


@dataclass(frozen=True, repr=False)
class Quantised(Tabular):
    """What was written, and what it costs and gains; the first row is the model before.

    Attributes:
        measured: the name of the score, with the number of images.
        layers: how many compute in int8.
        kept: those that lost too much and stayed in higher precision, worst first.
        budget: how much was allowed to be lost.
        unit: of the score and of the budget: ``points``, or ``dB`` of restored pictures.
    """

    path: Path
    measured: str
    rows: tuple[Row, ...]
    layers: int
    kept: tuple[str, ...]
    budget: float
    unit: str = "points"

    @property
    def table(self) -> ResultTable[Row]:
        """The rows as text and as JSON."""
        plain, unit = self.rows[0].milliseconds, "%" if self.unit == "points" else self.unit
        columns: tuple[Column[Row], ...] = (
            Column(lambda row: row.model, "model", "model"),
            Column(lambda row: row.points, self.measured, "points", unit=unit, format="{:.2f}"),
            Column(lambda row: row.milliseconds, f"ms for {BATCH} images", "milliseconds", format="{:.1f}"),
            Column(lambda row: plain / row.milliseconds, "faster", format="{:.2f}"),
            Column(lambda row: row.megabytes, "MB", "megabytes", format="{:.2f}"),
        )
        return ResultTable(columns, self.rows)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        return dataclasses.asdict(self) | {"path": str(self.path), "rows": self.table.to_dict()}


class Write(Protocol):
    """See :class:`Int8Format`."""

    def __call__(
        self, plain: Path, out: Path, layers: Sequence[str], images: Sequence[Tensor], *, seven_bits: bool
    ) -> None:
        """Images each (1, C, H, W).

        Args:
            seven_bits: weights take half of their range, so that sums do not overflow (``machine``).
        """


@dataclass(frozen=True, kw_only=True)
class Int8Format:
    """How int8 is written into the files of one engine. The file's own metadata stays.

    Attributes:
        write: the graph ``plain`` with those layers in int8, calibrated on ``images``, as the file ``out``.
        write_weights: (plain, out, layers): with the weights of those layers in int8 alone.
    """

    write: Write
    write_weights: Callable[[Path, Path, Sequence[str]], None]


def quantize(
    predictor: Predictor,
    out: str | Path,
    images: Sequence[ImageLike],
    *,
    labelled: Source | None = None,
    others: Sequence[ImageLike] = (),
    budget: float | None = None,
    weights_only: bool = False,
) -> Quantised:
    """Write a model with its linear layers in int8.

    Where that costs more than the budget, the layers that it makes noisiest stay in higher precision: one, two, four,
    and so on up to half of them.

    Args:
        predictor: what :func:`vitrail.load` makes of a run or of weights; an exported file is a graph already.
        out: a new ``.onnx`` or ``.xml`` file, for ONNX Runtime or OpenVINO.
        images: some hundred like those that the model will see; they decide on the range of the numbers.
        labelled: other images, with labels that the task takes, to measure the accuracy on. They decide which layers
            stay, so none of a test split. Default: predictions are compared with the model's.
        others: without labels, the images to compare predictions on; default: every fourth of ``images``, which then is
            not calibrated on.
        budget: points (0 to 100) that may be lost, 1 by default; of restored pictures dB, 0.1 by default. Without
            ``labelled`` these are what a picture of 40 dB would lose.
        weights_only: the weights become int8 and the arithmetic stays: a smaller file with nearly the same outputs.

    Raises:
        UserError: no images or a bad one, a place that is taken, a library that is missing, or a budget that does not
            hold with half of the layers; then no file remains.
    """
    out = Path(out)
    name = engines.of_file(out)
    if name is None or name not in registry.names("int8.formats"):
        raise UserError(f"{out.name!r} names no format that holds int8; end it with .onnx or .xml")
    require_free(out)
    if not images:
        raise UserError("there are no calibration images; give some hundred like those that the model will see")
    if labelled is None and not others:
        others, images = images[1::4], [image for place, image in enumerate(images) if place % 4 != 1]
        if not others:
            raise UserError("one image cannot both be calibrated on and compared on; give two, or better some hundred")
    runtime = engines.load_format(name)
    int8_format: Int8Format = registry.load("int8.formats", name).FORMAT
    task, preprocess = predictor.task, predictor.preprocess.config
    if predictor.device.type != "cpu":
        task = copy.deepcopy(task).cpu()
    tensors = [_input(predictor, image) for image in images]
    if labelled is None:
        score = agreement(task, [_input(predictor, image) for image in others])
    else:
        score = accuracy(task, predictor.preprocess, labelled)
    budget = score.budget if budget is None else budget
    seven_bits = not weights_only and sums_of_int8_overflow()
    if seven_bits:
        note("this processor has no VNNI: weights have 7 bits, so that its sums of int8 products do not overflow")
    if not weights_only:
        task = smooth(task, tensors)
    worst = worst_first(task, tensors)
    with tempfile.TemporaryDirectory(prefix="vitrail-") as temporary, writing(task, preprocess, name, out) as file:
        folder = Path(temporary)
        plain = _moved(file, folder / "plain")
        if fixed := Graph(task, runtime.read(plain, "fp32")).fixed:
            note(f"images of {size_text(preprocess.size)} pixels only: {fixed}")
        before = score.measure(Graph(task, runtime.read(plain, "fp32")))
        for kept in _fallbacks(worst):
            quantised = folder / str(len(kept)) / file.name
            quantised.parent.mkdir()
            layers = [layer for layer in worst if layer not in kept]
            if weights_only:
                int8_format.write_weights(plain, quantised, layers)
            else:
                int8_format.write(plain, quantised, layers, tensors, seven_bits=seven_bits)
            after = score.measure(Graph(task, runtime.read(quantised, "fp32")))
            note(f"{len(layers)} of {len(worst)} layers in int8: {max(before - after, 0):.2f} {score.unit} lost")
            if before - after <= budget:
                break
        else:
            raise UserError(
                f"with half of the layers in int8 still {before - after:.2f} {score.unit} are lost, more than the "
                f"budget of {budget:g}; allow more, give more calibration images, or pass --weights-only"
            )
        kind = "int8 weights" if weights_only else "int8"
        rows = _rows({"fp32": (plain, before), kind: (quantised, after)}, score, task, preprocess, runtime)
        _moved(quantised, file.parent)
    return Quantised(out, score.name, rows, len(layers), kept, budget, score.unit)


def _input(predictor: Predictor, image: ImageLike) -> Tensor:
    """The model's input of one image, (1, C, H, W); of one that keeps its size, a part in its middle."""
    pixels = predictor.tensor(image).cpu()
    if predictor.preprocess.config.resize != "none":
        return pixels
    for axis, side in ((2, predictor.preprocess.config.size[0]), (3, predictor.preprocess.config.size[1])):
        length = min(PARTS * side, pixels.shape[axis])
        pixels = pixels.narrow(axis, (pixels.shape[axis] - length) // 2, length)
    return pixels


def _fallbacks(worst: tuple[str, ...]) -> Iterator[tuple[str, ...]]:
    """The layers to keep: none, then the worst one, two, four … up to half of all."""
    yield ()
    count = 1
    while count <= len(worst) // 2:
        yield worst[:count]
        count *= 2


def _rows(
    files: dict[str, tuple[Path, float]],
    score: Score,
    task: Embedder,
    preprocess: PreprocessConfig,
    runtime: FileFormat,
) -> tuple[Row, ...]:
    """Each file, whose points in fp32 are known, in every precision that the engine has for what is not int8."""
    graphs: dict[str, Engine] = {}
    known: dict[str, tuple[float, float]] = {}
    for name, (file, points) in files.items():
        for precision in runtime.precisions:
            plain = precision == "fp32"
            title = name if plain else precision if name == "fp32" else f"{name}, rest {precision}"
            graphs[title] = Graph(task, runtime.read(file, precision))
            known[title] = (points if plain else score.measure(graphs[title]), _megabytes(file))
    seconds = measure(graphs, task, preprocess)
    return tuple(Row(title, points, seconds[title] * 1e3, size) for title, (points, size) in known.items())


def _megabytes(file: Path) -> float:
    return sum(part.stat().st_size for part in file.parent.glob(f"{file.stem}.*")) / 1e6


def _moved(file: Path, folder: Path) -> Path:
    """The file and those next to it in another folder."""
    folder.mkdir(exist_ok=True)
    for part in list(file.parent.iterdir()):
        shutil.move(part, folder / part.name)
    return folder / file.name
