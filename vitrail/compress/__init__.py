"""A smaller or faster model from a trained one, applied from outside.

``methods/`` holds one method a file, a module that is a :class:`Method`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, cast, runtime_checkable

from vitrail import registry
from vitrail.config import from_dict
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.trainable import Embedder, image_encoder
from vitrail.vit import ViT

Levels: TypeAlias = tuple[float, ...]
PLAIN = "plain"


class Method(Protocol):
    """A module of ``methods/``. ``Options`` is its config."""

    Options: type[Any]
    STRENGTH: str
    """The option that trades accuracy for speed."""

    def levels(self, vit: ViT) -> Levels:
        """Values of that option for a curve."""

    def apply(self, task: Embedder, options: object, found: object) -> Embedder:
        """A compressed copy; the task itself stays as it is.

        Args:
            options: ``Options``.
            found: what ``calibrate`` returned, or None.
        """


@runtime_checkable
class Calibrated(Protocol):
    """A method that measures on labelled images first."""

    def calibrate(self, task: Embedder, batches: Iterable[Batch]) -> object:
        """What ``apply`` gets as ``found``."""


def method_names() -> list[str]:
    """The names of the methods."""
    return registry.names("compress.methods")


def apply(
    predictor: Predictor, method: str = "tome", *, calibration: Iterable[Batch] | None = None, **options: object
) -> Predictor:
    """A compressed copy of a predictor.

    Args:
        method: one of :func:`method_names`, or a third party's dotted name.
        calibration: batches of labelled images, for ``prune``.
        options: fields of the method's ``Options``.

    Raises:
        UserError: an unknown method or option, a model that the method cannot compress, or no calibration images.
    """
    found = _calibrated(predictor, method, calibration)
    return _applied(predictor, _load(method), options, found)


def variants(
    predictor: Predictor,
    method: str = "tome",
    levels: Iterable[float] = (),
    *,
    calibration: Iterable[Batch] | None = None,
    **options: object,
) -> dict[str, Predictor]:
    """The predictor itself, ``plain``, and a compressed copy for each level of the method's strength, as ``r=8``.

    Args:
        levels: values of the option that the method calls its ``STRENGTH``; default: the method's own.

    Otherwise as :func:`apply`.
    """
    module = _load(method)
    name = module.STRENGTH
    if name in options:
        raise UserError(f"{name!r} is what the levels vary; give levels, and leave that option out")
    found = _calibrated(predictor, method, calibration)
    chosen = tuple(levels) or module.levels(image_encoder(predictor.task))
    made = {f"{name}={level:g}": _applied(predictor, module, {**options, name: level}, found) for level in chosen}
    return {PLAIN: predictor, **made}


def calibrates(method: str) -> bool:
    """Whether the method has to see labelled images first."""
    return isinstance(registry.load("compress.methods", method), Calibrated)


def _load(method: str) -> Method:
    return cast(Method, registry.load("compress.methods", method))


def _calibrated(predictor: Predictor, method: str, calibration: Iterable[Batch] | None) -> object:
    """What the method measures on labelled images, or None."""
    module = registry.load("compress.methods", method)
    if not isinstance(module, Calibrated):
        return None
    if calibration is None:
        raise UserError(f"{method.rpartition('.')[2]} measures on labelled images; give some as calibration")
    return module.calibrate(predictor.task, calibration)


def _applied(predictor: Predictor, method: Method, options: dict[str, object], found: object) -> Predictor:
    task = method.apply(predictor.task, from_dict(method.Options, options), found)
    return Predictor(task, predictor.preprocess.config, device=predictor.device, exact=predictor.exact)


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = registry.submodules(__name__)
