"""What files of diffusion transformers of other libraries have in common (Peebles & Xie 2023, DiT)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, mapped
from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.generate.diffusion import Config
from vitrail.ops.grid import Pair

TASK = "diffusion"
GUIDANCE, STEPS = 4.0, 50  # of the authors' pictures


def description(
    *,
    image_size: int,
    channels: int,
    patch: int,
    dim: int,
    depth: int,
    heads: int,
    mlp_dim: int,
    num_classes: int,
    outputs: int,
    norm2_eps: float | None,
    sinusoids_end: int,
    assumed: tuple[str, ...] = (),
) -> Description:
    """A transformer of the authors' kind, without factors of norms, whose steps are DDPM's.

    Raises:
        UserError: it computes something else than noise, with or without variances.
    """
    if outputs not in (channels, 2 * channels):
        raise UserError(
            f"this diffusion transformer makes {outputs} channels of {channels}, neither noise nor noise with its "
            "variance; Vitrail does not compute it"
        )
    block = {"mlp": "gelu_tanh", "norm_affine": False, "norm_eps": 1e-6, "norm2_eps": norm2_eps}
    settings: dict[str, Any] = {
        "model": {
            "image_size": image_size,
            "channels": channels,
            "patch_size": patch,
            "dim": dim,
            "depth": depth,
            "heads": heads,
            "mlp_dim": mlp_dim,
            "positions": "sincos_2d_mae",
            "class_token": False,
            "block": block,
        },
        "classes": [str(number) for number in range(num_classes)],
        "condition": {"counts": "steps", "sinusoids_end": sinusoids_end},
        "variances": outputs == 2 * channels,
        "sampler": {"name": "euler", "steps": STEPS, "guidance": GUIDANCE, "interval": [0, 1]},
    }
    said = assumed
    if channels not in (1, 3):
        said += (f"inputs: latents of {channels} channels, which a VAE of their library makes of pictures",)
    preprocess = PreprocessConfig(size=(image_size, image_size), channels=channels)
    return Description(TASK, from_dict(Config, settings), preprocess, said, frozenset())


def lacks(config: Config, *, eps: tuple[float | None, ...], sinusoids_end: int) -> str | None:
    """What the authors' models do not have: it is compared with the one of the same sizes."""
    model = config.model
    if not config.classes or model.patch_size[0] != model.patch_size[1] or model.image_size[0] != model.image_size[1]:
        return "model without classes, or of images or patches that are no squares"
    theirs = description(
        image_size=model.image_size[0],
        channels=model.channels,
        patch=model.patch_size[0],
        dim=model.dim,
        depth=model.depth,
        heads=model.heads,
        mlp_dim=model.mlp_dim,
        num_classes=len(config.classes),
        outputs=model.channels * (2 if config.variances else 1),
        norm2_eps=model.block.norm2_eps if model.block.norm2_eps in eps else None,
        sinusoids_end=sinusoids_end,
    ).config
    assert isinstance(theirs, Config)
    for name, own, other in (
        ("architecture", model, theirs.model),
        ("condition", config.condition, theirs.condition),
        ("prediction", (config.predicts, config.schedule), (theirs.predicts, theirs.schedule)),
        ("scale of the noise", config.noise_scale, 1.0),
    ):
        if own != other:
            return f"{name} other than DiT's"
    return None


def patches_last_rows(ours: str, theirs: str, channels: int, patch: Pair) -> list[Rule]:
    """Weight and bias whose rows are a flattened patch: theirs run (height, width, channel), ours (channel, height,
    width)."""

    def read(value: Tensor) -> Tensor:
        return value.unflatten(0, (*patch, channels)).movedim(2, 0).flatten(0, 2)

    def write(value: Tensor) -> Tensor:
        return value.unflatten(0, (channels, *patch)).movedim(0, 2).flatten(0, 2)

    return [mapped(f"{ours}.{part}", f"{theirs}.{part}", read, write) for part in ("weight", "bias")]


def equal(ours: str, *theirs: str) -> Rule:
    """One tensor that they keep several times."""

    def read(parts: Sequence[Tensor]) -> Tensor:
        first = parts[0]
        if not first.is_meta and any(not torch.equal(first, other) for other in parts[1:]):
            raise UserError(f"{theirs[0]} is another tensor in other blocks, which no diffusion transformer here has")
        return first

    return Rule(ours, theirs, read, lambda value: [value.clone() for _ in theirs])


def equal_layer(ours: str, *theirs: str) -> list[Rule]:
    """Weight and bias of a layer that they keep several times."""
    return [equal(f"{ours}.{part}", *(f"{name}.{part}" for name in theirs)) for part in ("weight", "bias")]


def mlp(ours: str, first: str, second: str) -> list[Rule]:
    """Both layers of an MLP."""
    return [*layer(f"{ours}.fc1", first), *layer(f"{ours}.fc2", second)]
