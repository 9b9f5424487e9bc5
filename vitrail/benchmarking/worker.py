"""The process of one candidate: it reads questions as lines of JSON and answers each with a line.

    python -m vitrail.benchmarking.worker

A question is ``[name, argument, …]`` with the name of a method of :class:`Worker`; an answer is ``{"value": …}`` or
``{"error": "why"}``. It ends with its input. Only the memory of this process is measured, so it is a new program, no
fork of a program that has loaded a model already.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import torch
from torch import Tensor

if sys.platform != "win32":  # where `benchmark` does not run
    import resource

from vitrail.benchmarking.roofline import synchronise
from vitrail.config import from_dict
from vitrail.data.source import SourceConfig
from vitrail.loading import load
from vitrail.predictor import Predictor

WARM_UP = 2  # steps; the first compiles and allocates
STATUS = Path("/proc/self/status")


class Worker:
    """A candidate's model. A question names a method."""

    model: Predictor
    images: Tensor

    def __init__(self) -> None:
        self.start = resident()

    def load(
        self,
        source: str,
        engine: str,
        precision: str,
        merge: int,
        image_size: Sequence[int],
        device: str,
        allow_pickle: bool,
        names: str | None,
        threads: int,
        module: str | None,
    ) -> None:
        """Make the model ready.

        Args:
            engine: of a model that is no graph, else empty.
            merge: tokens that are still to be merged.
            module: of a third party's task, imported first.

        The rest as for :func:`vitrail.load`.
        """
        torch.set_num_threads(threads)
        if module is not None:
            importlib.import_module(module)
        height, width = image_size
        model = load(
            source,
            image_size=(height, width),
            device=device,
            allow_pickle=allow_pickle,
            names=names,
            precision="fp32" if engine else precision,
        )
        if merge:
            from vitrail.compress import apply

            model = apply(model, "tome", r=merge)
        self.model = model.running(engine, precision) if engine else model

    @torch.inference_mode()
    def prepare(self, batch: int) -> None:
        """Random images for the turns that follow, and a few steps that do not count."""
        config = self.model.preprocess.config
        self.images = torch.randn(batch, config.channels, *config.size, device=self.model.device)
        for _ in range(WARM_UP):
            self._step()

    @torch.inference_mode()
    def turn(self, seconds: float) -> list[float]:
        """The seconds of each step for so long, one at least, after one that meets cold caches and does not count."""
        ends = time.perf_counter() + seconds
        self._step()
        taken: list[float] = []
        while not taken or time.perf_counter() < ends:
            started = time.perf_counter()
            self._step()
            taken.append(time.perf_counter() - started)
        return taken

    def memory(self) -> tuple[int, int | None]:
        """Bytes: the largest resident set over that at the start, and the most that an accelerator had allocated."""
        on_device = None if self.model.device.type == "cpu" else torch.accelerator.max_memory_allocated()
        return resident(peak=True) - self.start, on_device

    def evaluate(self, data: dict[str, object], split: str | None) -> dict[str, object]:
        """``metrics``, and the one that counts as text: its ``label`` and how it is ``shown``."""
        from vitrail.report.evaluated import measure
        from vitrail.report.plain import plain

        measured = measure(self.model, from_dict(SourceConfig, data), split, batch_size=32, progress=False)
        metrics, monitor = measured.evaluation.metrics, self.model.task.monitor or "loss"
        headline = measured.evaluation.family.headline(monitor)
        return {"metrics": plain(metrics), "label": headline.label, "shown": headline.show(metrics[monitor])}

    def _step(self) -> None:
        self.model.engine(self.images)
        synchronise(self.model.device)


def resident(*, peak: bool = False) -> int:
    """Bytes of memory that this process holds, or the most that it held."""
    if STATUS.exists():  # getrusage begins at the memory of the program that started this one
        found = re.search(rf"Vm{'HWM' if peak else 'RSS'}:\s+(\d+)", STATUS.read_text())
        assert found is not None
        return int(found[1]) * 2**10
    if sys.platform != "win32":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 2**10)
    raise NotImplementedError


def main() -> None:
    """Respond until the input ends."""
    worker, answers = Worker(), _own_output()
    for line in sys.stdin:
        name, *arguments = json.loads(line)
        try:
            answer = {"value": getattr(worker, name)(*arguments)}
        except Exception as error:  # of a library; the caller continues without this candidate
            answer = {"error": (str(error).strip().splitlines() or [type(error).__name__])[0][:300]}
        print(json.dumps(answer), file=answers, flush=True)


def _own_output() -> TextIO:
    """Standard output for answers alone: what libraries print goes to standard error."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


if __name__ == "__main__":
    main()
