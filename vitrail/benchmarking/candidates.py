"""What can be measured of a model: every engine, precision and number of merged tokens that go together."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import torch

from vitrail import engines
from vitrail.compress import apply
from vitrail.compress.curve import cost
from vitrail.engines import FileFormat
from vitrail.engines.choose import PLAIN
from vitrail.engines.comparing import compare, require_agreement
from vitrail.engines.graph import Graph, writing
from vitrail.errors import UserError, did_you_mean
from vitrail.ops.grid import Pair
from vitrail.predictor import Predictor, name_of


@dataclass(frozen=True)
class Way:
    """How to run a model.

    Attributes:
        merge: patch tokens merged in each layer (ToMe); 0: none.
    """

    engine: str
    precision: str
    merge: int = 0

    def __str__(self) -> str:
        return f"{self.engine} {self.precision}" + (f" r={self.merge}" if self.merge else "")


@dataclass(frozen=True)
class Candidate:
    """A model and how to run it, in a separate process.

    Attributes:
        source: what :func:`vitrail.load` takes; a graph where the engine runs one, with the tokens merged already.
        size: (height, width) in pixels.
        macs: multiply–accumulates of one image.
    """

    way: Way
    source: str
    size: Pair
    macs: int


@dataclass(frozen=True)
class LeftOut:
    """What was requested and could not be measured."""

    way: Way
    size: Pair
    reason: str


class CandidateBuilder:
    """Makes candidates of one model at one size.

    Args:
        model: its native size is the one to measure at.
        folder: for the graphs, which are written once each.
    """

    def __init__(self, source: str, model: Predictor, folder: Path) -> None:
        self.source, self.model, self.folder = source, model, folder
        self.size = model.preprocess.config.size
        self._models = {0: model}
        self._files: dict[tuple[str, int], str] = {}

    def make(self, way: Way) -> Candidate | LeftOut:
        """A candidate, or why there can be none."""
        try:
            has_files = isinstance(engines.load(way.engine, way.precision), FileFormat)
            source = self._graph(way.engine, way.merge) if has_files else self.source
            return Candidate(way, source, self.size, self._macs(way.merge))
        except UserError as error:
            return LeftOut(way, self.size, str(error))

    def _merged(self, merge: int) -> Predictor:
        if merge not in self._models:
            self._models[merge] = apply(self.model, "tome", r=merge)
        return self._models[merge]

    def _graph(self, engine: str, merge: int) -> str:
        if engines.of_file(self.source) == engine:
            return self.source
        if self.model.device.type != "cpu":
            raise UserError(f"the engine {engine!r} runs on the CPU, not on {str(self.model.device)!r}")
        if (engine, merge) not in self._files:
            path = self.folder / f"{engine}-{merge}-{self.size[0]}x{self.size[1]}{engines.load_format(engine).suffix}"
            task, preprocess = self._merged(merge).task, self.model.preprocess.config
            with writing(task, preprocess, engine, path) as file:
                graph = Graph(task, engines.load_format(engine).read(file, "fp32"))
                require_agreement(engine, "fp32", compare(engine, graph, task, preprocess, "fp32"))
            self._files[engine, merge] = str(path)
        return self._files[engine, merge]

    def _macs(self, merge: int) -> int:
        task = self._merged(merge).task
        if engines.of_file(self.source) is None:
            return cost(task).macs
        config = dataclasses.replace(task.config.model, image_size=self.size)
        with torch.device("meta"):  # a file's task cannot be looked into
            return cost(type(task)(dataclasses.replace(task.config, model=config))).macs


def ways(source: str, names: tuple[str, ...], precisions: tuple[str, ...], merges: tuple[int, ...]) -> list[Way]:
    """All requested ones, after the reference: the model as it is, in fp32.

    Args:
        source: a graph that ``vitrail export`` wrote runs in its own engine only.
        names: of engines; none means all.

    Raises:
        UserError: an engine or a precision that is not there, or an exported file and more than its own engine.
    """
    own = engines.of_file(source)
    if own is not None and (set(names) - {own} or any(merges)):
        raise UserError(f"{name_of(source)} runs in {own}, as it is; give the run for other engines and for merging")
    chosen = names or ((own,) if own else tuple(engines.names()))
    known = dict.fromkeys(each for name in chosen for each in engines.load(name).precisions)
    if strange := [each for each in precisions if each not in known]:
        raise UserError(f"no engine here has the precision {strange[0]!r}; {did_you_mean(strange[0], known)}")
    asked = [Way(engine, precision, merge) for merge, engine, precision in product(merges, chosen, precisions)]
    return list(dict.fromkeys((Way(own or PLAIN, "fp32"), *asked)))
