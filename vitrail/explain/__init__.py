"""Heat maps of what a model's outputs depend on, and figures of what it has learned.

``methods/`` holds one method a file: an ``Options`` config, ``explain(task, images, options, *padding) -> list[Heat]``
and ``suits(task)``, whether the method applies to the task. All show what the task computes: its own windows, masks and
queries among the tokens, and no attention to padding.
``overlay`` draws a heat map on its image, ``vit_figures`` the ViT paper's figure 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Annotated

import numpy as np
from pydantic import Field
from torch import Tensor

from vitrail import registry
from vitrail.config import from_dict
from vitrail.errors import UserError, did_you_mean
from vitrail.ops.grid import Grid
from vitrail.trainable import Embedder, EncoderModule, image_encoder

Target = Annotated[int, Field(ge=0)] | None
"""The index of an output; None for the largest."""


@dataclass(frozen=True, repr=False)
class Heat:
    """How much each patch matters for one image."""

    title: str
    values: np.ndarray
    """(h, w) on the token grid, not negative, of no particular scale."""

    def __repr__(self) -> str:
        return f"<{self.title}: {'×'.join(map(str, self.values.shape))} patches>"

    def _repr_png_(self) -> bytes:
        from vitrail.explain.overlay import heat_png

        return heat_png(self)


def method_names() -> list[str]:
    """The names of the methods."""
    return registry.names("explain.methods")


def method_options() -> dict[str, list[str]]:
    """The names of each method's options."""
    return {name: [f.name for f in fields(registry.load("explain.methods", name).Options)] for name in method_names()}


def methods_for(task: EncoderModule) -> list[str]:
    """The names of the methods that apply to a task."""
    return [name for name in method_names() if registry.load("explain.methods", name).suits(task)]


def explain(
    task: EncoderModule, images: Tensor, method: str = "rollout", *, padding: Tensor | None = None, **options: object
) -> list[Heat]:
    """Heat maps of one preprocessed image.

    Args:
        images: (1, C, H, W), preprocessed.
        method: one of :func:`method_names`, or a third party's dotted name.
        padding: of a spatial task, bool (1, H, W), true where a pixel is not the image's (``Predictor.inputs``).
        options: fields of the method's ``Options``.

    Raises:
        UserError: an unknown method or option, or a layer, head or class that the model does not have.
    """
    module = registry.load("explain.methods", method)
    given = () if padding is None else (padding,)
    maps: list[Heat] = module.explain(task, images, from_dict(module.Options, options), *given)
    return maps


def explain_all(task: EncoderModule, images: Tensor, *, padding: Tensor | None = None, **options: object) -> list[Heat]:
    """The heat maps of all methods that suit the task, each given those options that it has.

    Raises:
        UserError: as :func:`explain`, or an option that no method has.
    """
    known = method_options()
    if strange := set(options).difference(*known.values()):
        raise UserError(f"unknown option {min(strange)!r}; {did_you_mean(min(strange), set().union(*known.values()))}")
    return [
        heat
        for name in methods_for(task)
        for heat in explain(
            task, images, name, padding=padding, **{k: v for k, v in options.items() if k in known[name]}
        )
    ]


def has_answers(task: EncoderModule) -> bool:
    """Whether its outputs have names, unlike features and pixels."""
    return bool(task.names)


def layer_index(task: EncoderModule, layer: int) -> int:
    """The layer counted from 0, where -1 is the last.

    Raises:
        UserError: the model has no such layer.
    """
    return index_of_layer(layer, image_encoder(task).depth, "this model")


def index_of_layer(layer: int, depth: int, owner: str) -> int:
    """The same for any stack of ``depth`` layers; ``owner`` is the name for errors."""
    if not -depth <= layer < depth:
        raise UserError(f"there is no layer {layer}; {owner} has layers 0 to {depth - 1}")
    return layer % depth


def named_output(classes: Sequence[str], name: str) -> int:
    """The index of an output given by its name, or else by its number.

    Raises:
        UserError: there is no such output.
    """
    if name in classes:
        return list(classes).index(name)
    if name.isdecimal() and int(name) < len(classes):
        return int(name)
    raise UserError(f"unknown class {name!r}; {did_you_mean(name, classes)}")


def chosen_output(outputs: Tensor, target: int | None) -> Tensor:
    """The output to explain of (K,): the requested one, or the largest.

    Raises:
        UserError: there is no such output.
    """
    if target is not None and target >= len(outputs):
        raise UserError(f"there is no output {target}; this model has outputs 0 to {len(outputs) - 1}")
    return outputs[outputs.argmax() if target is None else target]


def class_scores(task: EncoderModule, images: Tensor, *padding: Tensor) -> Tensor:
    """One number for each output of one image, (K,), with a path for gradients even where all weights are frozen.

    Raises:
        UserError: the model has no outputs that a gradient can start from.
    """
    if not isinstance(task, Embedder):
        raise UserError(f"{task.name} has no outputs to explain; choose another method, such as rollout")
    return task.class_scores(task(images.clone().requires_grad_(), *padding))[0]


def heat(title: str, patches: Tensor, grid: Grid) -> Heat:
    """A :class:`Heat` from one value per patch, (N,)."""
    return Heat(title, patches.detach().float().cpu().reshape(grid).numpy())


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = registry.submodules(__name__)
