"""Knowledge distillation: a task learns from a trained model as well as from labels.

The student keeps its own loss, and the teacher adds one::

    loss = (1 - weight) · label_loss + weight · distillation_loss

``kinds/`` holds one kind of distillation loss a file:

- ``Options``: a config;
- ``WEIGHT``: the teacher's share by default;
- ``Objective(task, teacher, options)``: a subclass of :class:`Objective`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Annotated, Any, ClassVar

from pydantic import Field
from torch import Tensor, nn

from vitrail.config import config
from vitrail.distill.activations import Activations
from vitrail.distill.teacher import Teacher
from vitrail.registry import submodules

__all__ = ["Activations", "DistillConfig", "Objective", "Teacher"]


@config
class DistillConfig:
    """The teacher, and how to learn from it.

    Args:
        teacher: a run folder, a weights file, another library's folder, ``hf://owner/name``, an exported or quantised
            file, a program of torch.export (``.pt2``), or ``my_pkg.my_module:function``, which returns a
            :class:`Teacher`.
        kind: a file of ``vitrail/distill/kinds``, or a third party's module.
        weight: the teacher's share of the loss; default: the kind's.
        options: fields of the kind's ``Options``.
        allow_pickle: open a teacher's file that can run code. A run folder cannot allow it: give it again to resume.
    """

    teacher: str
    kind: str = "hard"
    weight: Annotated[float, Field(ge=0, le=1)] | None = None
    options: dict[str, Any] = Field(default_factory=dict)
    allow_pickle: bool = False

    @property
    def function(self) -> tuple[str, str] | None:
        """The module and the function that return the teacher, if ``teacher`` names them."""
        found = re.fullmatch(r"(\w+(?:\.\w+)+):(\w+)", self.teacher)
        return (found[1], found[2]) if found else None

    @property
    def modules(self) -> set[str]:
        """The registry entries that it names; dotted ones are third parties' modules."""
        return {self.kind, self.function[0]} if self.function else {self.kind}


class Objective(nn.Module, ABC):
    """A distillation loss. Its parameters learn with the student and are not released.

    Attributes:
        separate_heads: while the student learns, its class token's head gives the outputs that labels are compared
            with, and its distillation token's head those that the teacher is compared with (Touvron et al. 2021, DeiT,
            section 4); else both use the mean of the two heads.
    """

    separate_heads: ClassVar[bool] = False

    @abstractmethod
    def forward(self, student: Activations, images: Tensor) -> Tensor:
        """The loss, a scalar.

        Args:
            student: what the student computed.
            images: B C H W, preprocessed for the teacher.
        """


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
