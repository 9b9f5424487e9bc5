"""Solvers of the way from noise to an image, one a file; and how a sampler is set.

A solver's module defines ``solve(denoise, noise, times, path) -> Tensor``: from the noise B C H W, along times from 0
(noise) to 1 (image), to images B C H W.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, Protocol, TypeAlias

import torch
from pydantic import Field, model_validator
from torch import Tensor

from vitrail.config import config
from vitrail.ops.diffusion import Denoised, Path
from vitrail.registry import load, submodules

Denoise: TypeAlias = Callable[[Tensor, float], Denoised]
"""Noisy images B C H W and their time → what they are made of."""


class Solve(Protocol):
    """What the module of a solver defines."""

    def __call__(self, denoise: Denoise, noise: Tensor, times: list[float], path: Path) -> Tensor:
        """Images B C H W."""


@config
class SamplerConfig:
    """How images are drawn; it lies in the weights file, and each drawing may change it.

    Args:
        name: ``euler``, also known as DDIM (Song et al. 2021), ``heun`` (Karras et al. 2022), with two evaluations a
            step, or ``dpm_solver`` (Lu et al. 2022, DPM-Solver++ 2M).
        steps: of the solver.
        guidance: weight of classifier-free guidance (Ho & Salimans 2022); 1: none. Larger values give clearer pictures
            of less variety.
        interval: times between which guidance acts (Kynkäänniemi et al. 2024), from 0 (noise) to 1 (image).
        shift: above 1, more steps lie where there is much noise (Esser et al. 2024, equation 23).
    """

    name: Literal["euler", "heun", "dpm_solver"] = "heun"
    steps: Annotated[int, Field(gt=0, le=1000)] = 25
    guidance: Annotated[float, Field(ge=0, le=100)] = 1.0
    interval: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.1, 1.0)
    shift: Annotated[float, Field(gt=0, le=100)] = 1.0

    @model_validator(mode="after")
    def _consistent(self) -> SamplerConfig:
        if self.interval[0] > self.interval[1]:
            raise ValueError(f"interval {self.interval} ends before it begins")
        return self

    def times(self, start: float = 0.0) -> list[float]:
        """``steps + 1`` times from ``start`` to 1."""
        noise = [(1 - start) * (1 - step / self.steps) for step in range(self.steps + 1)]
        return [1 - self.shift * level / (1 + (self.shift - 1) * level) for level in noise]

    @property
    def solve(self) -> Solve:
        """The solver."""
        solve: Solve = load("sampling", self.name, "solve").solve
        return solve

    def guides(self, time: float) -> bool:
        """Whether guidance acts at this time."""
        return self.guidance != 1 and self.interval[0] <= time <= self.interval[1]


@dataclass(frozen=True)
class Start:
    """An image to begin from (Meng et al. 2022, SDEdit).

    Attributes:
        image: C H W or B C H W, normalised.
        time: how much of it is kept, from 0 (nothing) to 1 (all).
    """

    image: Tensor
    time: float


def filled(like: Tensor, time: float) -> Tensor:
    """The time of each image, B float32."""
    return torch.full((like.shape[0],), time, device=like.device)


if not TYPE_CHECKING:  # else a mistake in a name would go unnoticed
    __getattr__ = submodules(__name__)
