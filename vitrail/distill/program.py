"""A teacher of any architecture as a program of torch.export: ``.pt2``, the graph without the code that made it.

Its preprocessing and classes are read from files next to it: ``preprocessor_config.json`` (Hugging Face's) and
``classes.json``. PyTorch unpickles parts of such a file and loads machine code in it, so it is opened only if allowed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.export import ExportedProgram
from torch.fx import Node

from vitrail.checkpoints.beside import read_beside
from vitrail.console import note
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import from_huggingface
from vitrail.distill.teacher import Teacher
from vitrail.errors import UserError

SUFFIX = ".pt2"


def read(path: Path, student: PreprocessConfig, device: torch.device, *, allow_pickle: bool) -> Teacher:
    """The program as a teacher, on the device. It runs in the precision that it was exported in.

    Args:
        student: its mean and standard deviation are used if there is no ``preprocessor_config.json`` next to the file.

    Raises:
        UserError: absent, not allowed, damaged, or exported in training mode.
    """
    name = str(path)
    if not path.is_file():
        raise UserError(f"there is no teacher {name!r}; correct the path")
    if not allow_pickle:
        raise UserError(f"{name} can run code when it is opened; if you trust its source, pass --allow-pickle")
    program = _load(path, name)
    if _in_training_mode(program):
        raise UserError(f"{name} was exported in training mode; call eval() on the model and export it again")
    if device.type != "cpu":
        from torch.export.passes import move_to_device_pass

        program = move_to_device_pass(program, device)
    graph = program.module()

    def run(images: Tensor) -> Tensor:
        outputs: Tensor = graph(images)
        return outputs

    beside = read_beside(path, {})
    if beside.preprocessor:
        preprocess = from_huggingface(beside.preprocessor)
    else:
        preprocess = dataclasses.replace(student, size=_native_size(program) or student.size)
        note(f"{name}: mean and std as the student's; put preprocessor_config.json next to it if they differ")
    return Teacher(run, preprocess, beside.classes, name=name, device=device, autocast=False)


def _load(path: Path, name: str) -> ExportedProgram:
    with _silent("torch.export"):
        try:
            return torch.export.load(path)
        except Exception as error:  # a damaged archive raises anything
            said = (str(error).splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"{name} is no program that opens ({said}); export it again") from None


@contextmanager
def _silent(logger: str) -> Iterator[None]:
    """Within, that logger is disabled: the failure is raised as an exception as well."""
    found = logging.getLogger(logger)
    before, found.disabled = found.disabled, True
    try:
        yield
    finally:
        found.disabled = before


def _in_training_mode(program: ExportedProgram) -> bool:
    """Whether a layer is in training mode: batch normalisation by batch statistics, or active dropout."""
    return any(_argument(node, name) is True for node in program.graph.nodes for name in ("train", "training"))


def _argument(node: Node, name: str) -> object:
    """The value that an operator of the graph gets for the argument of this name, or None."""
    schema = getattr(node.target, "_schema", None)
    for place, argument in enumerate(schema.arguments if schema is not None else ()):
        if argument.name == name:
            return node.args[place] if place < len(node.args) else node.kwargs.get(name)
    return None


def _native_size(program: ExportedProgram) -> tuple[int, int] | None:
    """(height, width) of the images that were traced, if the program takes no others."""
    inputs = [node.meta["val"] for node in program.graph.nodes if node.name in program.graph_signature.user_inputs]
    size = tuple(inputs[0].shape[-2:]) if inputs and isinstance(inputs[0], Tensor) else ()
    return (size[0], size[1]) if len(size) == 2 and all(isinstance(side, int) for side in size) else None
