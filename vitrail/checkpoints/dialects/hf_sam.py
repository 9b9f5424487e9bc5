"""The image encoder of Hugging Face's SAM (Kirillov et al. 2023): SamVisionModel, and that of SamModel.

Learned positions, then attention in windows with relative positions by row and column. The convolutions after the last
block, and what answers prompts, are left out; on writing, transformers starts a new neck.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import parts, pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, repeated, same, shaped
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry
from vitrail.data.transforms.processors import from_sam, to_sam
from vitrail.errors import UserError

LIBRARY = "huggingface"
TASKS = ("features",)
FILE = hf.FILE
PARTS = (parts.DECOMPOSED,)
PREFIX = "vision_encoder."
FIRST = f"{PREFIX}layers.0."
IGNORED = ("vision_encoder.neck.*", "mask_decoder.*", "prompt_encoder.*", "shared_image_embedding.*")
BLOCK = [
    *layer("norm1", "layer_norm1"),
    *layer("attention.qkv", "attn.qkv"),
    same("attention.rows", "attn.rel_pos_h"),
    same("attention.columns", "attn.rel_pos_w"),
    *layer("attention.out", "attn.proj"),
    *layer("norm2", "layer_norm2"),
    *layer("mlp.fc1", "mlp.lin1"),
    *layer("mlp.fc2", "mlp.lin2"),
]


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the MLP's names in an encoder with positions as a map."""
    return {f"{FIRST}mlp.lin1.weight", f"{FIRST}attn.qkv.weight", f"{PREFIX}patch_embed.projection.weight"} <= set(
        names
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """The mean of the patches after the last block; layers of the longest tables attend to everything.

    Raises:
        UserError: an encoder without learned or without relative positions.
    """
    config = hf.Config(beside.config.get("vision_config") or beside.config)
    if f"{PREFIX}pos_embed" not in shapes or f"{FIRST}attn.rel_pos_h" not in shapes:
        raise UserError(
            "it has no learned or no relative positions, which such an encoder needs here; use transformers"
        )
    kernel, (_, rows, columns, _) = shapes[f"{PREFIX}patch_embed.projection.weight"], shapes[f"{PREFIX}pos_embed"]
    depth = depth_of(shapes, f"{PREFIX}layers.", config.values.get("num_hidden_layers"))
    tables = [shapes[f"{PREFIX}layers.{i}.attn.rel_pos_h"][0] for i in range(depth)]
    window = min(tables)
    whole = [i for i, length in enumerate(tables) if length != window]
    if not whole and window == 2 * rows - 1:  # as wide as the image: its windows are everything
        whole = list(range(depth))
    vit = {
        **geometry(kernel, rows * columns, (rows * kernel[2], columns * kernel[3])),
        "depth": depth,
        "heads": kernel[0] // shapes[f"{FIRST}attn.rel_pos_h"][1],
        "mlp_dim": shapes[f"{FIRST}mlp.lin1.weight"][0],
        "class_token": False,
        "final_norm": False,
        "decomposed": {"window": (window + 1) // 2, "global_layers": whole},
        "resampling": "bilinear",
        "block": {
            "mlp": config.activation(),
            "norm_eps": config.get("layer_norm_eps", 1e-6),
            "qkv_bias": f"{FIRST}attn.qkv.bias" in shapes,
        },
    }
    found = hf.describe(vit, config, beside, pool="mean")
    return replace(found, preprocess=preprocess(beside))


def preprocess(beside: Beside) -> Any:
    """SAM's processor resizes the longer side and puts a border below or to the right."""
    if "longest_edge" not in (beside.preprocessor.get("size") or {}):
        return hf.preprocess(beside)
    return from_sam(beside.preprocessor)


def rules(description: Description) -> list[Rule]:
    vit = pooled.read(description).vit
    grid = (vit.image_size[0] // vit.patch_size[0], vit.image_size[1] // vit.patch_size[1])
    return [
        shaped("vit.positions.embedding", f"{PREFIX}pos_embed", 1, *grid, vit.dim),
        *layer("vit.embed.projection", f"{PREFIX}patch_embed.projection"),
        *repeated(vit.depth, "vit.blocks.{i}.", PREFIX + "layers.{i}.", BLOCK),
    ]


def lacks(description: Description) -> str | None:
    """What a SamVisionModel cannot be."""
    model = pooled.read(description)
    vit = model.vit
    own = {
        "plain attention": vit.decomposed is None,
        "model without class token": False,
        "model without a final norm": False,
        "final norm": vit.final_norm,
        f"{model.pool} pooling": model.pool != "mean",
        "heads of a width other than dim / heads": vit.head_dim * vit.heads != vit.dim,
        "oblong images or patches": hf.oblong(model),
        "head": bool(model.outputs),
    }
    return hf.lacks(replace(model, labels=True), own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    assert vit.decomposed is not None
    config = {
        "architectures": ["SamVisionModel"],
        "model_type": "sam_vision_model",
        **hf.backbone_json(model),
        "mlp_dim": vit.mlp_dim,
        "qkv_bias": block.qkv_bias,
        "attention_dropout": block.attention_dropout,
        "window_size": vit.decomposed.window,
        "global_attn_indexes": list(vit.decomposed.global_layers),
        "use_abs_pos": True,
        "use_rel_pos": True,
        "dtype": "float32",
    }
    if model.preprocess is None or model.preprocess.resize != "pad" or model.preprocess.border != "end":
        return hf.sidecars(model, config)
    found = hf.sidecars(replace(model, preprocess=None), config)
    return found | {"preprocessor_config.json": to_sam(model.preprocess)}
