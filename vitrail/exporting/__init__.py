"""Models for other programs, compared with the original before they are released.

::

    vitrail.export("runs/birds", "birds.onnx", to="onnx")

The files of each engine that has files are a format. What another program wants around such a file is a module here,
with an :class:`Arrangement` as ``ARRANGEMENT``.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from vitrail import engines, registry, sampler_graph
from vitrail.checkpoints import foreign, native
from vitrail.console import note, track
from vitrail.conversion import convert
from vitrail.engines.comparing import differences, tolerance
from vitrail.engines.graph import Graph, writing
from vitrail.errors import UserError, did_you_mean
from vitrail.generate import Generative
from vitrail.loading import load
from vitrail.nn.patch_embed import PatchEmbed
from vitrail.ops.grid import Pair
from vitrail.predictor import ImageLike, Predictor
from vitrail.results import Column, ResultTable, Tabular, size_text
from vitrail.trainable import EMBEDDING, OUTPUTS, Embedder, image_encoder

BATCHES = (1, 4)
TIMES = 3
MOST_LEVELS = 3  # of 255, that a pixel may differ after all steps


@dataclass(frozen=True)
class Row:
    """One comparison with eager fp32.

    Attributes:
        images: ``random`` or ``given``.
        size: (height, width) in pixels.
        part: of the outputs, or the features, that differs most by its own scale (``Embedder.output_parts``).
        max_error: the largest difference of a value of it.
        relative_error: the same over the largest magnitude of its values.
        eager: milliseconds of the batch in PyTorch; ``engine``: in the engine.
    """

    images: str
    batch: int
    size: Pair
    part: str
    max_error: float
    relative_error: float
    eager: float
    engine: float


@dataclass(frozen=True, repr=False)
class Export(Tabular):
    """What was written; without rows where another library's file is a copy of the weights."""

    path: Path
    rows: tuple[Row, ...] = ()

    @property
    def table(self) -> ResultTable[Row]:
        """The rows as text and as JSON."""
        return ResultTable(COLUMNS, self.rows)

    def to_dict(self) -> dict[str, object]:
        """Plain JSON types."""
        return {"path": str(self.path), "tolerance": tolerance("fp32"), "rows": self.table.to_dict()}


@dataclass(frozen=True, kw_only=True)
class Arrangement:
    """What another program wants around a graph.

    Attributes:
        engines: the engine of each format, by the format's name.
        writing: (model, format, out): a context that yields the graph, as :func:`opened` does.
    """

    engines: Mapping[str, str]
    writing: Callable[[Predictor, str, Path], AbstractContextManager[Graph]]


def export(
    source: str | Path | Predictor,
    out: str | Path,
    *,
    to: str,
    images: Sequence[ImageLike] = (),
    image_size: int | Pair | None = None,
    patch_size: int | Pair | None = None,
    allow_pickle: bool = False,
    names: str | Path | None = None,
) -> Export:
    """Write the model of ``source`` for another program, and compare the two.

    Args:
        source: what :func:`vitrail.load` takes, or what it gives, such as a model whose layers merge tokens.
        out: a new file with the suffix of the format; for Triton a folder of a model repository, new or with a model
            that gets its next version; for another library, what :func:`vitrail.convert` takes.
        to: ``onnx``, ``openvino``, ``pt2``, ``triton``, ``triton-openvino``, a third party's engine by its dotted name,
            or what :func:`vitrail.convert` supports.
        images: to compare on, in addition to random ones.
        image_size, patch_size, allow_pickle, names: of a source that is a path, as :func:`vitrail.load` has them.

    Raises:
        UserError: the source cannot be read, or is loaded already and shall have another size; the format's library
            is missing; or a part of what the written model computes disagrees with eager fp32 by more than
            :data:`vitrail.engines.comparing.TOLERANCES`, and then no file remains.
    """
    formats = {runtime.format: name for name, runtime in engines.with_files().items()}
    if "." in to:  # a third party's engine, by its module
        formats[to] = to
    arranged = {each: arrangement for arrangement in _arrangements() for each in arrangement.engines}
    shape: dict[str, Any] = {"image_size": image_size, "patch_size": patch_size, "names": names}
    if to not in (*formats, *arranged):
        known = [*formats, *arranged, *foreign.libraries(), native.NAME]
        if "." not in to and to not in (*known, *foreign.names()):
            raise UserError(f"unknown format {to!r}; {did_you_mean(to, known)}")
        if isinstance(source, Predictor):
            raise UserError(
                f"{to} is written from a file's weights, not from a model in memory; save it, or export to onnx"
            )
        return Export(convert(source, out, to=to, allow_pickle=allow_pickle, **shape))
    out = Path(out)
    if isinstance(source, Predictor):
        if image_size or patch_size or allow_pickle or names:
            raise UserError("the model is loaded already; give its sizes, names and allow_pickle to vitrail.load")
        model = source
    else:
        model = load(source, device="cpu", allow_pickle=allow_pickle, **shape)
    if isinstance(model.task, Generative):
        return _drawing(model, model.task, formats, to, out)
    written = arranged[to].writing(model, to, out) if to in arranged else opened(model, formats[to], out)
    note(f"writing {out} as {to}")
    with written as graph:
        if graph.fixed:
            note(f"images of {size_text(model.preprocess.config.size)} pixels only: {graph.fixed}")
        total = len(sizes(model, graph)) * len(BATCHES) + -(-len(images) // max(BATCHES))
        if (tiles := model.preprocess.config.tiles) is not None and not tiles.blend:
            margin = round(tiles.overlap * tiles.size[0] / 2)
            note(f"for tiles without Vitrail: TILE, MARGIN, ALIGN = {tiles.size[0]}, {margin}, {tiles.align}")
        batches = track(_inputs(model, graph, images), "comparing with the original", total)
        rows = tuple(compare(model.task, graph, kind, batch) for kind, batch in batches)
        worst = max(rows, key=lambda row: row.relative_error)
        if worst.relative_error > tolerance("fp32"):
            raise UserError(
                f"the {to} file differs from the model in its {worst.part} by {worst.relative_error:.1e} of the "
                f"largest (tolerance {tolerance('fp32'):.0e}) and was not kept; try another format, and report the "
                "model's config"
            )
    return Export(out, rows)


def _drawing(model: Predictor, task: Generative, formats: Mapping[str, str], to: str, out: Path) -> Export:
    """A generator with its sampler, compared by what both draw.

    Raises:
        UserError: as :func:`export`.
    """
    if to not in formats or "." in to:
        raise UserError(f"a generator with its sampler is written as onnx, openvino or pt2, not as {to}")
    note(f"writing {out} as {to}, with {task.sampler.steps} steps of {task.sampler.name}")
    rows = []
    with torch.inference_mode(), sampler_graph.writing(task, model.preprocess.config, formats[to], out) as (own, file):
        for batch in BATCHES:
            noise, labels = task.noise(torch.arange(batch)), torch.arange(batch) % max(len(task.names), 1)
            expected, found = own(noise, labels), sampler_graph.run(file, formats[to], noise, labels)
            error = float((found.int() - expected.int()).abs().float().max())
            times = [_milliseconds(lambda: own(noise, labels))]  # noqa: B023  called at once
            times.append(_milliseconds(lambda: sampler_graph.run(file, formats[to], noise, labels)))  # noqa: B023
            size = model.preprocess.config.size
            rows.append(Row("noise", batch, size, sampler_graph.OUTPUT, error, error / 255, *times))
        if max(row.max_error for row in rows) > MOST_LEVELS:
            raise UserError(f"the {to} file draws pictures that differ by {error:.0f} grey levels and was not kept")
    return Export(out, tuple(rows))


@contextmanager
def opened(model: Predictor, engine: str, out: Path) -> Iterator[Graph]:
    """Write the model as a file of the engine and yield it open; the file appears if all goes well.

    Raises:
        UserError: the place is taken or cannot be written, or the engine is not installed or cannot hold the model.
    """
    with writing(model.task, model.preprocess.config, engine, out, model.metrics) as file:
        yield Graph(model.task, engines.load_format(engine).read(file, "fp32"))


@torch.inference_mode()
def compare(task: Embedder, graph: Graph, kind: str, images: Tensor) -> Row:
    """One batch B C H W in both."""
    # what makes the two outputs of every task in one pass is compared with each of them made alone
    expected = task.graph_outputs(images) | {OUTPUTS: task(images), EMBEDDING: task.embed(images)}
    found = {name: graph.output(images, name) for name in expected}
    worst = max(differences(task, found, expected, "fp32"), key=lambda each: each.relative)
    return Row(
        images=kind,
        batch=len(images),
        size=(images.shape[-2], images.shape[-1]),
        part=worst.part,
        max_error=worst.error,
        relative_error=worst.relative,
        eager=_milliseconds(lambda: task(images)),
        engine=_milliseconds(lambda: graph(images)),
    )


def _inputs(model: Predictor, graph: Graph, images: Sequence[ImageLike]) -> Iterator[tuple[str, Tensor]]:
    """Random images of each size, then those given."""
    config, generator = model.preprocess.config, torch.Generator().manual_seed(0)
    for size in sizes(model, graph):
        for batch in BATCHES:
            yield "random", torch.randn(batch, config.channels, *size, generator=generator)
    for start in range(0, len(images), max(BATCHES)):
        yield "given", torch.cat([model.tensor(image) for image in images[start : start + max(BATCHES)]])


def sizes(model: Predictor, graph: Graph) -> list[Pair]:
    """The native (height, width) and, where the graph takes it, a larger one."""
    embed, step = image_encoder(model.task).embed, model.task.graph_step
    (down, right) = (step * side for side in (embed.stride if isinstance(embed, PatchEmbed) else embed.patch_size))
    height, width = model.preprocess.config.size
    if step > 1:
        height, width = -(-height // down) * down, -(-width // right) * right
    return [(height, width)] if graph.size else [(height, width), (height + down, width + 2 * right)]


def _arrangements() -> list[Arrangement]:
    return [registry.load("exporting", name).ARRANGEMENT for name in registry.names("exporting")]


def _milliseconds(run: Callable[[], object]) -> float:
    taken = []
    for _ in range(TIMES):
        started = time.perf_counter()
        run()
        taken.append(time.perf_counter() - started)
    return statistics.median(taken) * 1e3


COLUMNS: tuple[Column[Row], ...] = (
    Column(lambda row: row.images, "images", "images"),
    Column(lambda row: row.batch, "batch", "batch"),
    Column(lambda row: list(row.size), key="size"),
    Column(lambda row: size_text(row.size), "size"),
    Column(lambda row: row.part, "part", "part"),
    Column(lambda row: row.max_error, "max error", "max_error", format="{:.1e}"),
    Column(lambda row: row.relative_error, "relative", "relative_error", format="{:.1e}"),
    Column(lambda row: row.eager, "eager", "eager", unit="ms", format="{:.1f}"),
    Column(lambda row: row.engine, "engine", "engine", unit="ms", format="{:.1f}"),
    Column(lambda row: row.eager / row.engine, "faster", format="{:.2f}"),
)
