"""Learning from pictures without labels, one method a file.

A method keeps the contract of a task (:mod:`vitrail.tasks`) without a prediction: ``Config``, and ``Task`` with a
``loss`` that needs no targets. Its backbone is ``task.vit``, which ``vitrail train --init`` starts from.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, NoReturn

import numpy as np
from torch import Tensor

from vitrail.errors import UserError
from vitrail.tasks import Task
from vitrail.vit import ViTConfig

_NO_LABELS = "was pretrained without labels and predicts none: fine-tune it with `vitrail train DATA --init`"


class Pretraining(Task):
    """A task whose targets are in the images themselves."""

    monitor: ClassVar[str] = "loss"
    monitor_mode: ClassVar[Literal["max", "min"]] = "min"
    takes = ("none", "class", "multilabel", "number")

    @property
    def name(self) -> str:
        return type(self).__module__.removeprefix("vitrail.pretrain.")

    @classmethod
    @abstractmethod
    def configure(
        cls, model: ViTConfig, names: Sequence[str], targets: np.ndarray[Any, Any], options: dict[str, Any]
    ) -> Any:
        """The method's config; labels are not looked at."""

    def embed(self, images: Tensor) -> Tensor:
        """B C H W → the class token, or the mean of the patches where there is none, B D."""
        features = self.vit(images)
        return features.patches.mean(dim=1) if features.cls is None else features.cls

    def decode(self, outputs: Tensor) -> NoReturn:
        """Raises UserError: there is nothing to predict."""
        raise UserError(f"a model of the method {self.name!r} {_NO_LABELS}")
