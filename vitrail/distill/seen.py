"""What a student makes of a batch on its way to its own loss, caught from outside."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from vitrail.pooled import PooledModel


class Seen:
    """Filled when the student's forward pass is through. B batch, N patches, D width, K outputs.

    Attributes:
        patches: B N D, after the last norm.
        vector: pooled, B D, or B 2D where the pool puts two tokens side by side.
        answer: B K, what is compared with the teacher's: of the distillation token where it answers apart.
    """

    patches: Tensor
    vector: Tensor
    answer: Tensor


@contextmanager
def watching(task: PooledModel, *, apart: bool) -> Iterator[Seen]:
    """Within, the task's forward passes leave what they see.

    Args:
        apart: of two heads, the one of the class token alone gives the task's outputs. Else it is the mean of both, as
            when it predicts.
    """
    seen, head = Seen(), task.head

    def pooled(_: nn.Module, inputs: tuple[Tensor, Tensor], vector: Tensor) -> None:
        seen.patches, seen.vector = inputs[1], vector

    def answered(_: nn.Module, inputs: Any, logits: Tensor) -> None:
        seen.answer = logits

    hooks = [task.pool.register_forward_hook(pooled)]
    if apart and head.distillation is not None:
        by_labels: list[Tensor] = []
        hooks += [
            head.distillation.register_forward_hook(answered),
            head.output.register_forward_hook(lambda _, inputs, logits: by_labels.append(logits)),
            head.register_forward_hook(lambda *_: by_labels.pop()),
        ]
    else:
        hooks.append(head.register_forward_hook(answered))
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()
