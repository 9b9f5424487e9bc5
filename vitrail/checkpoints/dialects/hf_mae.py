"""Hugging Face ViTMAEForPreTraining: encoder and decoder of a masked autoencoder."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, mapped, repeated, same
from vitrail.checkpoints.shapes import Shapes, depth_of, vit_config
from vitrail.pretrain import mae

LIBRARY = "huggingface"
TASKS = ("mae",)
FILE = hf.FILE
IGNORED = ("vit.pooler.*",)


def canonical(name: str) -> str:
    """Under the names of version 4; the decoder's blocks have had three names."""
    name = name.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")
    return hf.mlp_from_5(hf.from_5(hf.prefixed(name, "vit.", ("decoder.",))))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the decoder."""
    return "decoder.decoder_embed.weight" in names and "vit.encoder.layer.0.layernorm_before.weight" in names


def describe(shapes: Shapes, beside: Beside) -> Description:
    """The encoder as a ViT's; the decoder from its shapes and the config."""
    config = hf.Config(beside.config)
    vit = hf.settings(shapes, config, prefix="vit.", eps=1e-12, num_prefix=1)
    method = mae.Config(
        model=vit_config(vit),
        mask_ratio=config.get("mask_ratio", 0.75),
        normalise=config.get("norm_pix_loss", False),
        decoder_dim=shapes["decoder.decoder_embed.weight"][0],
        decoder_depth=depth_of(shapes, "decoder.decoder_layers."),
        decoder_heads=config.get("decoder_num_attention_heads", 16),
        decoder_mlp_dim=shapes["decoder.decoder_layers.0.intermediate.dense.weight"][0],
    )
    return Description("mae", method, hf.preprocess(beside), tuple(config.assumed), frozenset())


def rules(description: Description) -> list[Rule]:
    method = _method(description)
    channels, (height, width) = method.model.channels, method.model.patch_size

    def read(rows: Tensor) -> Tensor:  # theirs are ordered (row, column, channel)
        return rows.unflatten(0, (height, width, channels)).movedim(2, 0).flatten(0, 2)

    def write(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (channels, height, width)).movedim(0, 2).flatten(0, 2)

    return [
        *hf.embeddings("vit."),
        *repeated(method.model.depth, "vit.blocks.{i}.", "vit.encoder.layer.{i}.", hf.BLOCK),
        *layer("decoder.embed", "decoder.decoder_embed"),
        same("decoder.mask_token", "decoder.mask_token"),
        same("decoder.positions", "decoder.decoder_pos_embed"),
        *repeated(method.decoder_depth, "decoder.blocks.{i}.", "decoder.decoder_layers.{i}.", hf.BLOCK),
        *layer("decoder.norm", "decoder.decoder_norm"),
        *(mapped(f"decoder.pixels.{p}", f"decoder.decoder_pred.{p}", read, write) for p in ("weight", "bias")),
    ]


def lacks(description: Description) -> str | None:
    """What a ViTMAEForPreTraining cannot be."""
    model = pooled.read_encoder(_method(description).model, description)
    own = {
        "tanh GELU in the encoder alone": model.vit.block.mlp != "gelu",
        "images or patches that are not square": hf.oblong(model),
    }
    return hf.lacks(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    method = _method(description)
    model = pooled.read_encoder(method.model, description)
    config = hf.config_json(
        model,
        "vit_mae",
        "ViTMAEForPreTraining",
        intermediate_size=model.vit.mlp_dim,
        mask_ratio=method.mask_ratio,
        norm_pix_loss=method.normalise,
        decoder_hidden_size=method.decoder_dim,
        decoder_num_hidden_layers=method.decoder_depth,
        decoder_num_attention_heads=method.decoder_heads,
        decoder_intermediate_size=method.decoder_mlp_dim,
    )
    return hf.sidecars(model, config)


def _method(description: Description) -> mae.Config:
    assert isinstance(description.config, mae.Config)
    return description.config
