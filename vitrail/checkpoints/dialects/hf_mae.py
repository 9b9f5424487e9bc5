"""Hugging Face ViTMAEForPreTraining: encoder and decoder of a masked autoencoder."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from torch import Tensor

from vitrail.checkpoints.dialects import _huggingface as hf
from vitrail.checkpoints.model import Beside, Model, Shapes, depth_of
from vitrail.checkpoints.rules import Rule, layer, mapped, repeated, same
from vitrail.config import from_dict
from vitrail.vit import ViTConfig

LIBRARY = "huggingface"
TASK = "mae"
FILE = hf.FILE
IGNORED = ("vit.pooler.*",)


def canonical(name: str) -> str:
    """Version 4's words: the decoder's blocks have had three names."""
    name = name.replace("decoder.decoder_encoder.layer.", "decoder.decoder_layers.")
    return hf.mlp_from_5(hf.from_5(hf.prefixed(name, "vit.", ("decoder.",))))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the decoder."""
    return "decoder.decoder_embed.weight" in names and "vit.encoder.layer.0.layernorm_before.weight" in names


def describe(shapes: Shapes, beside: Beside) -> Model:
    """The encoder as a ViT's; the decoder from its shapes and the config."""
    config = hf.Config(beside.config)
    vit = hf.settings(shapes, config, prefix="vit.", eps=1e-12, num_prefix=1)
    vit["mlp_dim"] = shapes["vit.encoder.layer.0.intermediate.dense.weight"][0]
    options = {
        "mask_ratio": config.get("mask_ratio", 0.75),
        "normalise": config.get("norm_pix_loss", False),
        "decoder_dim": shapes["decoder.decoder_embed.weight"][0],
        "decoder_depth": depth_of(shapes, "decoder.decoder_layers."),
        "decoder_heads": config.get("decoder_num_attention_heads", 16),
        "decoder_mlp_dim": shapes["decoder.decoder_layers.0.intermediate.dense.weight"][0],
    }
    return Model(
        vit=from_dict(ViTConfig, vit, where="config.json"),
        task=TASK,
        options=options,
        preprocess=hf.preprocess(beside),
        assumed=tuple(config.assumed),
    )


def rules(model: Model) -> list[Rule]:
    channels, (height, width) = model.vit.channels, model.vit.patch_size

    def read(rows: Tensor) -> Tensor:  # theirs are ordered (row, column, channel)
        return rows.unflatten(0, (height, width, channels)).movedim(2, 0).flatten(0, 2)

    def write(rows: Tensor) -> Tensor:
        return rows.unflatten(0, (channels, height, width)).movedim(0, 2).flatten(0, 2)

    return [
        *hf.embeddings("vit."),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "vit.encoder.layer.{i}.", hf.BLOCK),
        *layer("decoder.embed", "decoder.decoder_embed"),
        same("decoder.mask_token", "decoder.mask_token"),
        same("decoder.positions", "decoder.decoder_pos_embed"),
        *repeated(model.options["decoder_depth"], "decoder.blocks.{i}.", "decoder.decoder_layers.{i}.", hf.BLOCK),
        *layer("decoder.norm", "decoder.decoder_norm"),
        *(mapped(f"decoder.pixels.{p}", f"decoder.decoder_pred.{p}", read, write) for p in ("weight", "bias")),
    ]


def lacks(model: Model) -> str | None:
    """What a ViTMAEForPreTraining cannot be."""
    return hf.lacks(
        model,
        {
            "tanh GELU in the encoder alone": model.vit.block.mlp != "gelu",
            "images or patches that are not square": hf.oblong(model),
        },
    )


def sidecars(model: Model) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    options = model.options
    config = hf.config_json(
        model,
        "vit_mae",
        "ViTMAEForPreTraining",
        intermediate_size=model.vit.mlp_dim,
        mask_ratio=options["mask_ratio"],
        norm_pix_loss=options["normalise"],
        decoder_hidden_size=options["decoder_dim"],
        decoder_num_hidden_layers=options["decoder_depth"],
        decoder_num_attention_heads=options["decoder_heads"],
        decoder_intermediate_size=options["decoder_mlp_dim"],
    )
    return hf.sidecars(model, config)
