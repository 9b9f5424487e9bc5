"""A generative model with its sampler as one graph: noise and classes in, pictures out, without Vitrail."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.export import Dim

from vitrail import engines
from vitrail.checkpoints import native
from vitrail.config import to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines import libraries
from vitrail.engines.program import EXAMPLE_BATCH, Program
from vitrail.errors import UserError
from vitrail.files import placing, require_free
from vitrail.generate import Generative
from vitrail.sampling import SamplerConfig

FORMAT, VERSION = "vitrail drawing", 1
INPUTS, OUTPUT = ("noise", "class"), "pictures"


class Drawing(nn.Module):
    """Noise (B, …) float32 and classes int64 (B,), -1 for none → pictures uint8 (B, H, W, C)."""

    mean: Tensor
    std: Tensor

    def __init__(self, task: Generative, preprocess: PreprocessConfig, sampler: SamplerConfig) -> None:
        super().__init__()
        self.task, self.sampler, self.rescale = task, sampler, preprocess.rescale
        self.register_buffer("mean", torch.tensor(preprocess.mean).reshape(-1, 1, 1))
        self.register_buffer("std", torch.tensor(preprocess.std).reshape(-1, 1, 1))

    def forward(self, noise: Tensor, labels: Tensor) -> Tensor:
        images = self.task.draw(noise, labels, self.sampler)
        levels = (images * self.std + self.mean) / self.rescale
        return levels.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)


@contextmanager
def writing(task: Generative, preprocess: PreprocessConfig, name: str, out: Path) -> Iterator[tuple[Drawing, Path]]:
    """Write the model with the sampler of its file in the format of engine ``name``; yields it as a module, and the
    file, which takes its place if all goes well.

    Raises:
        UserError: a file is there already, the place cannot be written, or the engine cannot hold the model.
    """
    runtime = engines.load_format(name)
    if out.suffix != runtime.suffix:
        raise UserError(f"{name} files end with {runtime.suffix}, not {out.name!r}; name it {out.stem}{runtime.suffix}")
    require_free(out)
    task = copy.deepcopy(task).cpu().float().eval().requires_grad_(False)
    drawing = Drawing(task, preprocess, task.sampler)
    noise = task.noise(torch.arange(EXAMPLE_BATCH))
    batch = {0: Dim("batch", min=1, max=2**16)}
    try:
        with torch.no_grad():
            graph = torch.export.export(
                drawing, (noise, torch.zeros(len(noise), dtype=torch.int64)), dynamic_shapes=(batch, batch)
            )
    except Exception as error:  # of a method that is not ours
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
        raise UserError(f"the method {task.name!r} cannot become a graph ({reason})") from error
    meta = {
        "format": FORMAT,
        "version": VERSION,
        **native.meta_of(task, preprocess),
        "sampler": to_dict(task.sampler),
        "noise": list(noise.shape[1:]),
    }
    with placing(out) as file:
        runtime.write(Program(graph, (OUTPUT,), None, "", INPUTS), file, meta)
        yield drawing, file


def run(file: Path, name: str, noise: Tensor, labels: Tensor) -> Tensor:
    """The pictures that the file draws, by its own runtime."""
    feeds = dict(zip(INPUTS, (noise.numpy(), labels.numpy()), strict=True))
    if name == "onnxruntime":
        session = libraries.onnxruntime().InferenceSession(file, providers=["CPUExecutionProvider"])
        return torch.from_numpy(session.run([OUTPUT], feeds)[0])
    if name == "openvino":
        compiled = libraries.openvino_core().compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
        return torch.from_numpy(compiled(feeds)[OUTPUT].copy())
    found: Tensor = torch.export.load(file).module()(noise, labels)
    return found
