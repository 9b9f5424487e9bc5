"""Hugging Face ViTForMaskedImageModeling: a ViT with a mask token and a linear layer to pixels (SimMIM)."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.rules import Rule, repeated, same, shaped
from vitrail.checkpoints.shapes import Shapes, vit_config
from vitrail.errors import UserError
from vitrail.pretrain import simmim

LIBRARY = "huggingface"
TASKS = ("simmim",)
FILE = hf.FILE
IGNORED = ("vit.pooler.*",)
UNIT = 32  # pixels hidden at a time in the paper; the file does not contain it


def canonical(name: str) -> str:
    """Under the names of version 4."""
    return hf.mlp_from_5(hf.from_5(hf.prefixed(name, "vit.", ("decoder.",))))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the decoder, a convolution of one pixel."""
    return "decoder.0.weight" in names and "vit.encoder.layer.0.layernorm_before.weight" in names


def describe(shapes: Shapes, beside: Beside) -> Description:
    """The encoder as a ViT's."""
    config = hf.Config(beside.config)
    vit = hf.settings(shapes, config, prefix="vit.", eps=1e-12, num_prefix=1)
    patch = vit["patch_size"][0]
    if beside.config.get("encoder_stride", patch) != patch:
        raise UserError(f"its encoder_stride is not the patch size {patch}; such a decoder cannot be computed here")
    method = simmim.Config(model=vit_config(vit), mask_size=max(UNIT // patch, 1) * patch)
    return Description("simmim", method, hf.preprocess(beside), tuple(config.assumed), frozenset())


def rules(description: Description) -> list[Rule]:
    model = _read(description)
    return [
        *hf.embeddings("vit."),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "vit.encoder.layer.{i}.", hf.BLOCK),
        same("mask_token", "vit.embeddings.mask_token"),
        shaped("pixels.weight", "decoder.0.weight", -1, model.vit.dim, 1, 1),
        same("pixels.bias", "decoder.0.bias"),
    ]


def lacks(description: Description) -> str | None:
    """What a ViTForMaskedImageModeling cannot be."""
    model = _read(description)
    own = {"images or patches that are not square": hf.oblong(model)}
    return hf.lacks(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = _read(description)
    config = hf.config_json(
        model,
        "vit",
        "ViTForMaskedImageModeling",
        intermediate_size=model.vit.mlp_dim,
        encoder_stride=model.vit.patch_size[0],
    )
    return hf.sidecars(model, config)


def _read(description: Description) -> PooledModel:
    assert isinstance(description.config, simmim.Config)
    return pooled.read_encoder(description.config.model, description)
