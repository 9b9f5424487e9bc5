"""An engine compared with the task: each part of what it computes on its own scale."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.engines import Engine
from vitrail.errors import UserError
from vitrail.trainable import EMBEDDING, OUTPUTS, Embedder

TOLERANCES = {"fp32": 1e-4, "fp16": 0.02, "bf16": 0.1, "int8": 0.3}
"""Of a part, as a share of its largest value. In fp32 sums in another order differ by 1e-6 to 1e-5; what is computed in
bf16 is rounded by 2⁻⁸ in each layer. How well int8 predicts is measured on images (:mod:`vitrail.int8`)."""
BATCH = 2


def tolerance(precision: str) -> float:
    """That of a precision; of one that only a third party's engine has, the largest."""
    return TOLERANCES.get(precision, max(TOLERANCES.values()))


@dataclass(frozen=True)
class Difference:
    """How far a part is from the task's own.

    Attributes:
        part: ``embedding``, or a name of ``Embedder.output_parts``.
        error: the largest difference of a value.
        scale: the largest magnitude of the task's values.
    """

    part: str
    error: float
    scale: float

    @property
    def relative(self) -> float:
        """The error as a share of the scale; infinite where it is not a number."""
        share = self.error / max(self.scale, torch.finfo(torch.float32).tiny)
        return math.inf if math.isnan(share) else share


def compare(
    name: str, engine: Engine, task: Embedder, preprocess: PreprocessConfig, precision: str
) -> dict[str, float]:
    """The relative error of each part on random images of the native size, eager fp32 being the truth.

    Raises:
        UserError: the engine fails.
    """
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(BATCH, preprocess.channels, *preprocess.size, generator=generator)
    images = images.to(next(task.parameters()).device)
    with torch.inference_mode():
        expected = {OUTPUTS: task(images), EMBEDDING: task.embed(images)}
        try:
            found = {OUTPUTS: engine(images), EMBEDDING: engine.embed(images)}
        except Exception as error:  # a runtime's own classes are not public
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            raise UserError(f"the engine {name!r} cannot compute the model ({reason}); run it in eager") from error
    largest = torch.finfo(torch.float32).max  # JSON has no infinity
    return {each.part: min(each.relative, largest) for each in differences(task, found, expected, precision)}


def require_agreement(name: str, precision: str, errors: Mapping[str, float]) -> None:
    """Does an engine with these errors compute what the task does?

    Raises:
        UserError: it does not.
    """
    part = max(errors, key=lambda each: errors[each])
    if errors[part] > tolerance(precision):
        raise UserError(
            f"the engine {name!r} in {precision} computes other {part} than the model, by "
            f"{errors[part]:.1e} of the largest (tolerance {tolerance(precision):g}); run it in eager, and report the "
            "model's config"
        )


def differences(
    task: Embedder, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], precision: str
) -> list[Difference]:
    """Of each part of each output.

    Where outputs are a set, each of the task's rows is compared with the nearest one found. In less than fp32 other
    rows may be in the set, so that there the median row counts.

    Args:
        found, expected: outputs by name, as ``Embedder.graph_outputs``.
    """
    result = []
    for name, truth in expected.items():
        if truth.shape != found[name].shape:
            result.append(Difference(name, math.inf, 1.0))
            continue
        ours, theirs = (
            task.output_parts(each) if name == OUTPUTS else {name: each}
            for each in (truth.float(), found[name].float())
        )
        is_set = name == OUTPUTS and task.unordered
        if is_set:
            theirs = _paired(ours, theirs)
        for part, values in ours.items():
            errors = (theirs[part].to(values.device) - values).abs()
            if is_set and precision != "fp32":
                errors = errors.flatten(2).amax(dim=2).median()
            result.append(Difference(part, float(errors.max()), float(values.abs().max())))
    return result


def _paired(ours: Mapping[str, Tensor], theirs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Parts (B, Q, …), such that row q is the one nearest to row q of ``ours`` by its numbers (B, Q, W)."""
    scales = {name: part.abs().max().clamp(min=1e-30) for name, part in ours.items() if part.ndim == 3}
    a, b = (torch.cat([each[name] / scale for name, scale in scales.items()], dim=2) for each in (ours, theirs))
    nearest = torch.cdist(a, b, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=2)
    return {name: part[torch.arange(len(part))[:, None], nearest] for name, part in theirs.items()}
