"""How fast a model is in every engine, precision, batch and image size, compared with the machine's peak rate.

::

    vitrail.benchmark("runs/birds", batches=(1, 8)).save("speed")

- ``candidates``: which combinations there are;
- ``process``, ``worker``: each candidate in a separate process, so that its memory is measured separately;
- ``roofline``: the rate of the machine's matrix products;
- ``result``: rows, the table, the files.
"""

from __future__ import annotations

import dataclasses
import sys
import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import torch

from vitrail.benchmarking import roofline
from vitrail.benchmarking.candidates import Candidate, CandidateBuilder, LeftOut, Way, ways
from vitrail.benchmarking.process import Opening, Process
from vitrail.benchmarking.result import Benchmark, Row, compared
from vitrail.benchmarking.turns import take_turns
from vitrail.data.source import SourceConfig
from vitrail.engines.graph import Graph
from vitrail.errors import UserError
from vitrail.loading import load
from vitrail.ops.grid import Pair, as_pair
from vitrail.predictor import Predictor
from vitrail.report.evaluated import find_split
from vitrail.sizes import require_fit

Found = tuple[list[Row], list[LeftOut]]


def benchmark(
    source: str | Path,
    data: str | None = None,
    *,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = ("fp32", "bf16"),
    batches: Sequence[int] = (1, 8),
    image_sizes: Sequence[int | Pair] = (),
    merges: Sequence[int] = (0,),
    split: str | None = None,
    seconds: float = 3.0,
    device: str | torch.device = "auto",
    allow_pickle: bool = False,
    names: str | Path | None = None,
) -> Benchmark:
    """Measure a model in everything that can run it; eager PyTorch in fp32, the reference, is always among them.

    All candidates of one image size are in memory together, each in its own process, and take turns, so that all run
    under the same load of the machine. A step is one forward pass of a batch that is preprocessed and on the device.

    Args:
        source: what :func:`vitrail.load` takes; an exported file is measured in its own engine, which is then the
            reference.
        data: labelled images to measure the accuracy of each candidate on, as for ``vitrail evaluate``.
        engines: by name (:mod:`vitrail.engines`); default: all.
        allow_pickle, names: as of :func:`vitrail.load`.
        image_sizes: (height, width) in pixels; default: the model's own. Positions are resampled as at loading.
        merges: patch tokens to merge in each layer (ToMe); 0: none.
        split: of the data; default: test where there is one, else val.
        seconds: for all the turns of a row, its warm-up apart; a step that takes longer than its turn is finished.

    Raises:
        UserError: Windows, a source that cannot be read, an engine or precision that is not there, a size that
            patches do not cover, numbers that are not positive, or data that the model cannot be measured on.
            Combinations that do not go together are left out, with the reason.
    """
    if sys.platform == "win32":
        raise UserError("the benchmark reads memory as Linux and macOS report it; run it there")
    if not batches or min(batches) < 1 or not merges or min(merges) < 0 or not 0 < seconds < float("inf"):
        raise UserError("batches and seconds are positive numbers, merges are 0 or more; correct them")
    asked = ways(str(source), tuple(engines), tuple(precisions), tuple(merges))
    opening = Opening(allow_pickle, None if names is None else str(names))
    model = load(source, device=device, allow_pickle=allow_pickle, names=names)
    sizes = dict.fromkeys(as_pair(size) for size in image_sizes) or [model.preprocess.config.size]
    for size in sizes:
        _require(model, size)
    labelled = _labelled(model, data, split)
    rooflines = roofline.measure(dict.fromkeys(way.precision for way in asked), model.device)
    rows: list[Row] = []
    left_out: list[LeftOut] = []
    for size in sizes:
        if size != model.preprocess.config.size:
            model = load(source, image_size=size, device=model.device, allow_pickle=allow_pickle, names=names)
        more, lost = _measure(str(source), model, asked, sorted(set(batches)), seconds, labelled, opening)
        rows += more
        left_out += lost
    return Benchmark(
        source=str(source),
        device=str(model.device),
        threads=torch.get_num_threads(),
        seconds=seconds,
        reference=asked[0],
        rooflines=tuple(rooflines),
        rows=tuple(compared(rows, asked[0], rooflines)),
        left_out=tuple(left_out),
    )


def _measure(
    source: str,
    model: Predictor,
    asked: list[Way],
    batches: list[int],
    seconds: float,
    labelled: tuple[SourceConfig, str] | None,
    opening: Opening,
) -> Found:
    """Everything of one image size."""
    with tempfile.TemporaryDirectory(prefix="vitrail-") as folder, ExitStack() as running:
        builder = CandidateBuilder(source, model, Path(folder))
        made = [builder.make(way) for way in asked]
        processes = {
            each: running.enter_context(Process(each, model, opening)) for each in made if isinstance(each, Candidate)
        }
        rows, lost = take_turns(processes, batches, seconds, labelled)
        return rows, [each for each in made if isinstance(each, LeftOut)] + lost


def _require(model: Predictor, size: Pair) -> None:
    """Does the model take images of (height, width)?"""
    require_fit(dataclasses.replace(model.preprocess.config, size=size), model.task)
    if isinstance(model.engine, Graph):
        model.engine.require(size)


def _labelled(model: Predictor, data: str | None, split: str | None) -> tuple[SourceConfig, str] | None:
    """The data and its split, which exist and fit the model; None without data."""
    if data is None:
        return None
    config = SourceConfig(spec=data, val_fraction=0)  # all images count
    _, split = find_split(model, config, split)
    return config, split
