"""Files that hold a model as a graph: self-contained, so that they open without the run they came from."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from torch import Tensor

from vitrail import engines
from vitrail.build import build_described
from vitrail.checkpoints import native
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines import DEFAULT_OUTPUTS, Meta, Opened
from vitrail.engines.program import output_names, trace
from vitrail.errors import UserError
from vitrail.files import placing, require_free
from vitrail.ops.grid import Pair
from vitrail.trainable import EMBEDDING, OUTPUTS, Embedder, image_encoder

FORMAT, VERSION = "vitrail program", 1


class Graph:
    """An engine that runs a graph on the CPU. It takes images of any size that the graph takes.

    Attributes:
        outputs: the names of its outputs.
        size: the only (height, width) that it takes; None: any that patches cover, from two patches a side.
        fixed: why there is only one.
    """

    def __init__(self, task: Embedder, opened: Opened) -> None:
        self._encoder, self._run, self._step = image_encoder(task), opened.run, task.graph_step
        self.outputs = output_names(opened.meta)
        self.size = _size(opened.meta)
        self.fixed = str(opened.meta.get("fixed", ""))

    def __call__(self, images: Tensor, *padding: Tensor) -> Tensor:
        assert not padding, "a model that needs the padding mask cannot become a graph"
        return self.output(images, OUTPUTS)

    def embed(self, images: Tensor) -> Tensor:
        return self.output(images, EMBEDDING)

    def output(self, images: Tensor, name: str) -> Tensor:
        """Images (B, C, H, W) → one of ``outputs``.

        Raises:
            UserError: images that the graph does not take.
        """
        self._encoder.grid(images)
        self.require((images.shape[-2], images.shape[-1]))
        return self._run(images.detach().float().cpu().contiguous(), name)

    def require(self, size: Pair) -> None:
        """Does the graph take images of (height, width)?

        Raises:
            UserError: it does not.
        """
        if self.size is not None and size != self.size:
            raise UserError(
                f"the exported model takes images of {_times(self.size)} pixels only, not {_times(size)}, because "
                f"{self.fixed}; export it again with --image-size"
            )
        if self.size is None and any(side % self._step for side in self._encoder.embed.grid(size)):
            raise UserError(
                f"an exported model takes whole windows of {self._step} patches, not {_times(size)} pixels; continue "
                "the image by its mirror image"
            )
        if 1 in self._encoder.embed.grid(size) and self.size is None:
            raise UserError(
                f"an exported model takes two patches a side or more, not {_times(size)} pixels; enlarge it"
            )


@dataclass(frozen=True)
class File:
    """An opened file: ``task`` has no weights and decodes the outputs of ``engine``."""

    task: Embedder
    preprocess: PreprocessConfig
    metrics: dict[str, float] | None
    engine: Graph


def open_file(
    path: str | Path, precision: str = "fp32", *, engine: str | None = None, allow_pickle: bool = False
) -> File:
    """A file that :func:`writing` made.

    Args:
        engine: a third party's, whose file it may be.

    Raises:
        UserError: absent, damaged, not ours, or of a kind that can run code.
    """
    path = Path(path)
    name = engines.of_file(path, engine)
    assert name is not None
    if not path.is_file():
        raise UserError(f"there is no file {str(path)!r}; correct the path")
    runtime = engines.load_format(name, precision)
    if runtime.pickled and not allow_pickle:
        raise UserError(f"{path} can run code when it is opened; if you trust its source, pass --allow-pickle")
    opened = runtime.read(path, precision)
    meta = opened.meta
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise engines.not_ours(path, "is not an exported Vitrail model")
    native.require_known_version(meta, VERSION, path)
    if not _is_size(meta.get("size")):
        raise engines.not_ours(path, "declares no valid image size")
    task, preprocess = build_described(meta, path)
    image_encoder(task.eval()).embed.register_forward_pre_hook(_refuse)
    task.register_state_dict_pre_hook(_refuse)
    return File(task, preprocess, meta.get("metrics"), Graph(task, opened))


@contextmanager
def writing(
    task: Embedder, preprocess: PreprocessConfig, name: str, out: Path, metrics: dict[str, float] | None = None
) -> Iterator[Path]:
    """Write ``task`` in the format of engine ``name`` and yield the file, which takes its place if all goes well.

    Until then it lies in a folder beside ``out``; what goes wrong leaves nothing.

    Raises:
        UserError: a file is there already, the place cannot be written, or the engine cannot hold the model.
    """
    runtime = engines.load_format(name)
    if out.suffix != runtime.suffix:
        raise UserError(f"{name} files end with {runtime.suffix}, not {out.name!r}; name it {out.stem}{runtime.suffix}")
    if next(task.parameters()).is_meta:
        _refuse()
    require_free(out)
    program = trace(task, preprocess)
    meta = {
        "format": FORMAT,
        "version": VERSION,
        **native.meta_of(task, preprocess, metrics),
        "size": list(program.size) if program.size else None,
        "fixed": program.fixed,
    }
    if program.outputs != DEFAULT_OUTPUTS:
        meta["outputs"] = list(program.outputs)
    with placing(out) as file:
        runtime.write(program, file, meta)
        yield file


def _size(meta: Meta) -> Pair | None:
    size = meta.get("size")
    return (size[0], size[1]) if isinstance(size, list) else None


def _is_size(size: object) -> bool:
    """A pair of pixels as JSON has it, or None."""
    return size is None or (isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size))


def _times(size: Pair) -> str:
    return "×".join(map(str, size))


def _refuse(*_: object) -> NoReturn:
    raise UserError("an exported model cannot be looked into or converted; give the run or the weights it came from")
