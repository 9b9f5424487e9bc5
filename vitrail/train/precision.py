"""Precision: ``auto`` resolved by measuring, and one guarded optimizer step for all precisions."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any, Literal, TypeAlias, TypeVar

import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from vitrail.console import note
from vitrail.dtypes import AUTOCAST_DTYPES
from vitrail.errors import UserError

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]
M = TypeVar("M", bound=nn.Module)
LIMIT = 10.0  # seconds of measuring


def autocast(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """The context in which losses are computed."""
    return torch.autocast(device.type, AUTOCAST_DTYPES.get(precision), enabled=precision in AUTOCAST_DTYPES)


def scaler(precision: str, device: torch.device) -> torch.amp.GradScaler | None:
    """fp16 gradients underflow unless the loss is scaled up; nothing else needs it."""
    if precision != "fp16":
        return None
    if device.type != "cuda":
        raise UserError(f"precision fp16 needs a GPU, not {device.type}; choose bf16 or fp32")
    return torch.amp.GradScaler(device.type)


def resolve(precision: Precision, model: M, loss: Callable[[M], Tensor], device: torch.device) -> Precision:
    """The precision that ``auto`` means here; any other one is returned unchanged.

    A GPU gets bf16, or fp16 if it lacks bf16. A CPU with bf16 matrix instructions gets bf16 if a training step of this
    model measures faster with it. The choice is printed.

    Args:
        loss: the model's loss on a typical batch.
    """
    if precision != "auto":
        return precision
    if device.type == "cuda":
        chosen: Precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
        note(f"precision: {chosen} (auto, {torch.cuda.get_device_name(device)})")
        return chosen
    if device.type != "cpu" or not has_fast_bf16():
        note(f"precision: fp32 (auto, {device.type} without bf16 matrix instructions)")
        return "fp32"
    note(f"precision: auto, measuring steps of a few images in fp32 and bf16, about {LIMIT:g} s at most")
    full, half = _step_seconds(model, loss, device, ("fp32", "bf16"))
    chosen = "bf16" if half < full else "fp32"
    note(f"precision: {chosen} (auto, measured: fp32 {full * 1e3:.1f} ms, bf16 {half * 1e3:.1f} ms per step)")
    return chosen


def has_fast_bf16() -> bool:
    """Whether this CPU multiplies bf16 matrices in hardware (AVX512-BF16 or AMX)."""
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    return bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))


def _step_seconds(
    model: M, loss: Callable[[M], Tensor], device: torch.device, precisions: tuple[str, ...]
) -> list[float]:
    """The fastest of a few forward and backward passes in each precision, in turns so that a busy machine slows all of
    them, on a copy so that the model does not change."""
    trial = copy.deepcopy(model)
    best = dict.fromkeys(precisions, float("inf"))
    begun = time.perf_counter()
    for rounds in range(1, 4):
        for name in precisions:
            started = time.perf_counter()
            with autocast(name, device):
                value = loss(trial)
            value.backward()
            best[name] = min(best[name], time.perf_counter() - started)
            trial.zero_grad()
        if (time.perf_counter() - begun) * (rounds + 1) / rounds > LIMIT:  # another round would take longer
            break
    return list(best.values())


def guarded_step(
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler | None,
    loss: Tensor,
    clip: float | None,
    *,
    clip_each: bool = False,
) -> Tensor:
    """Clip and step, unless the loss or a gradient is not finite: then weights and optimizer state do not change.

    The check stays on the device if the optimizer is fused (as its AMP ``found_inf``), so a GPU never waits for the
    host; other optimizers cost one synchronisation.

    Args:
        loss: the loss, the same on every rank.
        clip: maximum norm of the gradient, or with ``clip_each`` of each parameter's.

    Returns:
        The norm of the gradient before clipping; not finite if the step was skipped.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"] if p.grad is not None]
    grads = [p.grad for p in parameters if p.grad is not None]
    # A loss that is not finite need not show in the gradients; add it, so that checking their norm is enough.
    _local(grads[0]).add_(torch.where(loss.isfinite(), 0.0, torch.inf))
    if scaler is not None:
        scaler.unscale_(optimizer)
    norms = _full(torch.stack(torch._foreach_norm(grads)))
    norm = norms.norm()
    if clip is not None and clip_each:
        factors = (clip / (norms + 1e-6)).clamp(max=1)
        torch._foreach_mul_([_local(grad) for grad in grads], list(factors))
    elif clip is not None:
        nn.utils.clip_grads_with_norm_(parameters, clip, norm)
    if scaler is not None:
        scaler.step(optimizer)
        scaler.update()
    elif optimizer.defaults.get("fused"):
        optimizer.found_inf = (~norm.isfinite()).float()  # type: ignore[attr-defined]
        optimizer.step()
    elif bool(norm.isfinite()):
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return norm


def _local(tensor: Tensor) -> Tensor:
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def _full(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
