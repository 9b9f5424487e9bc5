"""A teacher that is the moving average of its student (Tarvainen & Valpola 2017)."""

from __future__ import annotations

import copy

import torch
from torch import nn


def teacher_of(student: nn.Module) -> nn.Module:
    """A copy that no gradient reaches."""
    return copy.deepcopy(student).requires_grad_(False)


@torch.no_grad()
def follow(teacher: nn.Module, student: nn.Module, momentum: float) -> None:
    """teacher ← momentum · teacher + (1 - momentum) · student, parameter by parameter; buffers are copied."""
    own = [parameter.data for parameter in teacher.parameters()]
    new = [parameter.data for parameter in student.parameters()]
    torch._foreach_lerp_(own, new, 1 - momentum)
    for mine, theirs in zip(teacher.buffers(), student.buffers(), strict=True):
        mine.copy_(theirs)
