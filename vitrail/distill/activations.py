"""What a student computes on the way to its own loss."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import Tensor, nn

from vitrail.pooled import PooledModel


class Activations:
    """Set by the student's forward pass. B batch, N patches, D width, K outputs.

    Attributes:
        patches: B N D, after the last norm.
        pooled: B D, or B 2D where the pool concatenates two tokens.
        logits: B K, to compare with the teacher's; of the distillation token's head if heads are separate.
    """

    patches: Tensor
    pooled: Tensor
    logits: Tensor


@contextmanager
def record(task: PooledModel, *, separate_heads: bool) -> Iterator[Activations]:
    """Within, forward passes of the task set the activations.

    Args:
        separate_heads: a task with two heads outputs that of the class token alone, instead of the mean of both.
    """
    found, head = Activations(), task.head

    def pool(_: nn.Module, inputs: tuple[Tensor, Tensor], pooled: Tensor) -> None:
        found.patches, found.pooled = inputs[1], pooled

    def answer(_: nn.Module, inputs: object, logits: Tensor) -> None:
        found.logits = logits

    hooks = [task.pool.register_forward_hook(pool)]
    if separate_heads and head.distillation is not None:
        of_class_token: list[Tensor] = []
        hooks += [
            head.distillation.register_forward_hook(answer),
            head.output.register_forward_hook(lambda _, inputs, logits: of_class_token.append(logits)),
            head.register_forward_hook(lambda *_: of_class_token.pop()),
        ]
    else:
        hooks.append(head.register_forward_hook(answer))
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()
