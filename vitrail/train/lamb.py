"""LAMB: Adam's direction, each matrix's step scaled to its own norm (You et al. 2020, arXiv:1904.00962, alg. 2)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor


class Lamb(torch.optim.Optimizer):
    """Layer-wise adaptive moments for large batches.

    r = m̂ / (√v̂ + ε) + λ w ;  w ← w − lr · (‖w‖ / ‖r‖) · r

    The ratio is 1 where a norm is zero, and for parameters without weight decay (biases, norms), as in NVIDIA's
    and timm's versions. Unlike theirs the gradient is not clipped here: the loop does that.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-6,
        weight_decay: float = 0.0,
    ) -> None:
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> None:  # type: ignore[override]
        assert closure is None, "the loop computes the gradients"
        for group in self.param_groups:
            params = [p for p in group["params"] if p.grad is not None]
            if params:
                self._update(params, **{key: group[key] for key in self.defaults})

    def _update(
        self, params: list[Tensor], lr: float, betas: tuple[float, float], eps: float, weight_decay: float, **_: Any
    ) -> None:
        for p in params:
            if not self.state[p]:
                self.state[p] = {"step": torch.tensor(0.0), "m": torch.zeros_like(p), "v": torch.zeros_like(p)}
        grads = [p.grad for p in params if p.grad is not None]
        first, second, counts = ([self.state[p][key] for p in params] for key in ("m", "v", "step"))
        torch._foreach_add_(counts, 1)
        steps = [float(count) for count in counts]  # on the CPU; fewer for what was frozen at first
        torch._foreach_lerp_(first, grads, 1 - betas[0])
        torch._foreach_mul_(second, betas[1])
        torch._foreach_addcmul_(second, grads, grads, 1 - betas[1])

        denominator = torch._foreach_sqrt(second)
        torch._foreach_div_(denominator, [(1 - betas[1] ** step) ** 0.5 for step in steps])
        torch._foreach_add_(denominator, eps)
        update = torch._foreach_div(first, [1 - betas[0] ** step for step in steps])
        torch._foreach_div_(update, denominator)
        if weight_decay:
            torch._foreach_add_(update, params, alpha=weight_decay)
            ratios = [_ratio(w.norm(), r.norm()) for w, r in zip(params, update, strict=True)]
            torch._foreach_mul_(update, ratios)
        torch._foreach_add_(params, update, alpha=-lr)


def _ratio(weight: Tensor, update: Tensor) -> Tensor:
    return torch.where((weight > 0) & (update > 0), weight / update, 1.0)
