"""Compiled layers: every call of one runs as one graph, and the loss and its gradients stay."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from vitrail.train.compiling import compile_layers
from vitrail.trainable import Trainable, layers_of


class Counting:
    """A backend that runs graphs as they are, and counts how often."""

    def __init__(self) -> None:
        self.runs = 0

    def __call__(self, graph: torch.fx.GraphModule, _: list[Tensor]) -> Callable[..., Any]:
        def run(*inputs: Any) -> Any:
            self.runs += 1
            return graph(*inputs)

        return run


def assert_compiled_layers_run(task: Trainable, batch: Any) -> None:
    """Each call of a layer in the loss is one run of a compiled graph, with the numbers of the layer itself."""
    torch._dynamo.reset()
    calls: list[int] = []
    hooks = [layer.register_forward_hook(lambda *_: calls.append(1)) for layer in layers_of(task)]
    expected = gradients(task, batch)
    for hook in hooks:
        hook.remove()
    names, backend = list(task.state_dict()), Counting()
    compile_layers(task, backend)
    with warnings.catch_warnings():  # dynamo looks at attributes whose reading warns
        warnings.simplefilter("ignore")
        found = gradients(task, batch)
    assert backend.runs == len(calls) >= sum(encoder.depth for encoder in task.encoders().values())
    assert list(task.state_dict()) == names
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def gradients(task: Trainable, batch: Any) -> list[Tensor]:
    """The loss, and the gradients of what is trained."""
    torch.manual_seed(0)  # of noised queries and dropped paths
    loss = task.loss(batch)["loss"]
    trained = [parameter for parameter in task.parameters() if parameter.requires_grad]
    return [loss.detach(), *torch.autograd.grad(loss, trained)]
