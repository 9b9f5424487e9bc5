"""Maps of what a model's outputs depend on and of what its features tell apart, and figures of what it has learned.

``methods/`` holds one method a file: an ``Options`` config, ``explain(task, images, options, *padding) ->
list[PatchMap]`` and ``suits(task)``, whether the method applies to the task. All show what the task computes: its own
windows, masks and queries among the tokens, and no attention to padding. A method that relates the patch features of
two images also has ``compare(features, reference, options) -> list[PatchMap]``, the maps of the first of them; its
``Options`` then have a ``layer``.
``overlay`` draws a map on its image, ``vit_figures`` the ViT paper's figure 7.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field
from torch import Tensor

from vitrail import registry
from vitrail.config import from_dict
from vitrail.data.indexing.names import ClassFinder
from vitrail.errors import UserError, did_you_mean
from vitrail.explain.maps import Colours as Colours
from vitrail.explain.maps import Heat as Heat
from vitrail.explain.maps import PatchMap as PatchMap
from vitrail.explain.restored import WITH_GRADIENTS, makes_pictures, require_small
from vitrail.ops.grid import Grid
from vitrail.trainable import Embedder, EncoderModule, image_encoder

if TYPE_CHECKING:
    from vitrail.explain.patch_features import PatchFeatures

Target = Annotated[int, Field(ge=0)] | None
"""The index of an output; None for the largest."""


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
    task: EncoderModule,
    images: Tensor,
    method: str = "rollout",
    *,
    padding: Tensor | None = None,
    reference: Sequence[Tensor] = (),
    **options: object,
) -> list[PatchMap]:
    """The maps of one preprocessed image.

    Args:
        images: (1, C, H, W), preprocessed.
        method: one of :func:`method_names`, or a third party's dotted name.
        padding: of a spatial task, bool (1, H, W), true where a pixel is not the image's (``Predictor.inputs``).
        reference: another image, as ``Predictor.inputs`` gives it, whose patches these are compared with.
        options: fields of the method's ``Options``.

    Raises:
        UserError: an unknown method or option, a layer, head, patch or class that the model does not have, or a
            reference for a method that looks at one image.
    """
    module = registry.load("explain.methods", method)
    settings = from_dict(module.Options, options)
    given = () if padding is None else (padding,)
    if reference:
        from vitrail.explain.patch_features import patch_features

        require_comparing(method)
        layer = layer_index(task, settings.layer)
        return compare(
            method,
            patch_features(task, images, *given, layer=layer),
            patch_features(task, *reference, layer=layer),
            **options,
        )
    maps: list[PatchMap] = module.explain(task, images, settings, *given)
    return maps


def compare(method: str, features: PatchFeatures, reference: PatchFeatures, **options: object) -> list[PatchMap]:
    """The maps of one image whose patches are compared with those of a reference, in features of one layer.

    Raises:
        UserError: an unknown method or option, a patch that is not there, or a method that looks at one image.
    """
    require_comparing(method)
    module = registry.load("explain.methods", method)
    maps: list[PatchMap] = module.compare(features, reference, from_dict(module.Options, options))
    return maps


def comparing() -> list[str]:
    """The names of the methods that relate the patches of two images."""
    return [name for name in method_names() if hasattr(registry.load("explain.methods", name), "compare")]


def require_comparing(method: str) -> None:
    """Check that a method relates the patches of two images.

    Raises:
        UserError: it looks at one image.
    """
    if not hasattr(registry.load("explain.methods", method), "compare"):
        raise UserError(f"{method} looks at one image; for two images choose {' or '.join(comparing())}")


def explain_all(
    task: EncoderModule, images: Tensor, *, padding: Tensor | None = None, **options: object
) -> list[PatchMap]:
    """The maps of all methods that suit the task, each given those options that it has.

    Raises:
        UserError: as :func:`explain`, or an option that no method has.
    """
    known = method_options()
    if strange := set(options).difference(*known.values()):
        raise UserError(f"unknown option {min(strange)!r}; {did_you_mean(min(strange), set().union(*known.values()))}")
    maps: list[PatchMap] = []
    for name in methods_for(task):
        own: dict[str, Any] = {key: value for key, value in options.items() if key in known[name]}
        maps += explain(task, images, name, padding=padding, **own)
    return maps


def has_answers(task: EncoderModule) -> bool:
    """Whether its outputs have names, unlike features and pixels."""
    return bool(output_names(task))


def output_names(task: EncoderModule) -> tuple[str, ...]:
    """Those of its outputs, in their order; none of features and pixels."""
    return task.names if isinstance(task, Embedder) else ()


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
    if several := ClassFinder(classes).matching(name):
        if len(several) == 1:
            return list(classes).index(several[0])
        raise UserError(f"the class {name!r} is the name of several: {', '.join(several)}; write one of them")
    raise UserError(f"unknown class {name!r}; {did_you_mean(name, classes)}")


def chosen_index(outputs: Tensor, target: int | None) -> int:
    """The index of the output to explain of (K,): the requested one, or the largest.

    Raises:
        UserError: there is no such output.
    """
    if target is not None and target >= len(outputs):
        raise UserError(f"there is no output {target}; this model has outputs 0 to {len(outputs) - 1}")
    return int(outputs.argmax()) if target is None else target


def chosen_output(outputs: Tensor, target: int | None) -> Tensor:
    """The output itself. Arguments and errors as :func:`chosen_index`."""
    return outputs[chosen_index(outputs, target)]


def output_name(task: EncoderModule, index: int) -> str:
    """How titles call an output: by its name, or where outputs have none by its number."""
    names = output_names(task)
    return names[index] if names else f"output {index}"


def class_scores(task: EncoderModule, images: Tensor, *padding: Tensor) -> Tensor:
    """One number for each output of one image, (K,), with a path for gradients even where all weights are frozen.

    Raises:
        UserError: the model has no outputs that a gradient can start from.
    """
    if not isinstance(task, Embedder):
        raise UserError(f"{task.name} has no outputs to explain; choose another method, such as rollout")
    if makes_pictures(task):
        require_small(images, WITH_GRADIENTS)
    return task.class_scores(task.one_view()(images.clone().requires_grad_(), *padding))[0]


def heat(title: str, patches: Tensor, grid: Grid) -> Heat:
    """A :class:`Heat` from one value per patch, (N,)."""
    return Heat(title, patches.detach().float().cpu().reshape(grid).numpy())


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = registry.submodules(__name__)
