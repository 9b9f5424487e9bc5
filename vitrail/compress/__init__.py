"""A smaller or faster model from a trained one, applied from outside.

``methods/`` holds one method a file:

- ``Options``: a config;
- ``STRENGTH``: the option that trades accuracy for speed, and ``levels(vit)``, values of it for a curve, none first;
- ``apply(task, options, found) -> Task``: a compressed copy; the task itself stays as it is;
- ``calibrate(task, batches) -> found``, only where the method has to see labelled images first.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, TypeAlias

from vitrail import registry
from vitrail.config import from_dict
from vitrail.errors import UserError
from vitrail.predictor import Predictor
from vitrail.tasks import Batch

Levels: TypeAlias = tuple[float, ...]


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
    settings = from_dict(module.Options, options)
    found = None
    if hasattr(module, "calibrate"):
        if calibration is None:
            raise UserError(f"the method {method!r} measures on labelled images; give some as calibration")
        found = module.calibrate(predictor.task, calibration)
    task = module.apply(predictor.task, settings, found)
    return Predictor(task, predictor.preprocess.config, device=predictor.device)
