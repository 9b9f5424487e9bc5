"""A smaller or faster model from a trained one, applied from outside.

``methods/`` holds one method a file:

- ``Options``: a config;
- ``STRENGTH``: the option that trades accuracy for speed, and ``levels(vit)``, values of it for a curve;
- ``apply(task, options, found) -> Task``: a compressed copy; the task itself stays as it is;
- ``calibrate(task, batches) -> found``, only where the method has to see labelled images first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from vitrail import registry
from vitrail.config import from_dict
from vitrail.data.batch import Batch
from vitrail.errors import UserError
from vitrail.predictor import Predictor

Levels: TypeAlias = tuple[float, ...]
PLAIN = "plain"


def method_names() -> list[str]:
    """The names of the methods."""
    return registry.names("compress.methods")


def apply(
    predictor: Predictor, method: str = "tome", *, calibration: Iterable[Batch] | None = None, **options: Any
) -> Predictor:
    """A compressed copy of a predictor.

    Args:
        method: one of :func:`method_names`, or a third party's dotted name.
        calibration: batches of labelled images, for ``prune``.
        options: fields of the method's ``Options``.

    Raises:
        UserError: an unknown method or option, a model that the method cannot compress, or no calibration images.
    """
    module = registry.load("compress.methods", method)
    return _applied(predictor, module, options, _calibrated(predictor, module, calibration))


def variants(
    predictor: Predictor,
    method: str = "tome",
    levels: Iterable[float] = (),
    *,
    calibration: Iterable[Batch] | None = None,
    **options: Any,
) -> dict[str, Predictor]:
    """The predictor itself, ``plain``, and a compressed copy for each level of the method's strength, as ``r=8``.

    Args:
        levels: values of the option that the method calls its ``STRENGTH``; default: the method's own.

    Otherwise as :func:`apply`.
    """
    module = registry.load("compress.methods", method)
    name = module.STRENGTH
    if name in options:
        raise UserError(f"{name!r} is what the levels vary; give levels, and leave that option out")
    found = _calibrated(predictor, module, calibration)
    chosen = tuple(levels) or module.levels(predictor.task.vit)
    made = {f"{name}={level:g}": _applied(predictor, module, {**options, name: level}, found) for level in chosen}
    return {PLAIN: predictor, **made}


def calibrates(method: str) -> bool:
    """Does the method have to see labelled images first?"""
    return hasattr(registry.load("compress.methods", method), "calibrate")


def _calibrated(predictor: Predictor, module: Any, calibration: Iterable[Batch] | None) -> Any:
    """What the method measures on labelled images, or None."""
    if not hasattr(module, "calibrate"):
        return None
    if calibration is None:
        raise UserError(f"{module.__name__.rpartition('.')[2]} measures on labelled images; give some as calibration")
    return module.calibrate(predictor.task, calibration)


def _applied(predictor: Predictor, module: Any, options: dict[str, Any], found: Any) -> Predictor:
    task = module.apply(predictor.task, from_dict(module.Options, options), found)
    return Predictor(task, predictor.preprocess.config, device=predictor.device, exact=predictor.exact)
