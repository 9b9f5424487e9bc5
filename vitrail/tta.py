"""Test-time augmentation: the mean of what a model says of an image and of its mirror image; pictures are also turned
by quarters, which makes eight views (Timofte et al. 2016, "Seven ways to improve example-based single image super
resolution", section 3.6).

::

    predictor = average_views(vitrail.load("runs/birds"))
    predictor.predict("photo.jpg").label
"""

from __future__ import annotations

from typing import TypeVar

from vitrail.engines.views import Views
from vitrail.errors import UserError
from vitrail.predictions import Prediction
from vitrail.predictor import Predictor
from vitrail.tasks import Task

P = TypeVar("P", bound=Prediction)


def average_views(predictor: Predictor[P]) -> Predictor[P]:
    """The same predictor, which takes twice the time, or of a task with ``quarter_turns`` eight times: outputs are
    averaged as the task says (``Task.average_views``), feature vectors by their mean.

    Raises:
        UserError: a task that does not average its outputs.
    """
    task = predictor.task
    if not isinstance(task, Task) or type(task).average_views is Task.average_views:
        raise UserError(f"{task.name!r} does not average the outputs of several views; leave out tta")
    return predictor.with_engine(Views(predictor.engine, task))
