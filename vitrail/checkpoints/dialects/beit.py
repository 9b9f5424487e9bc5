"""BEiT and BEiT v2 as timm's Beit and Microsoft's own files name them (https://github.com/microsoft/unilm).

Queries and values have biases, keys have none; positions are biases of attention, a table a block or one for all, or
the usual learned ones.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import pooled, timm_config, timm_eva
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, repeated, same, stacked
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, vit_config
from vitrail.checkpoints.tensors_only import first, plain
from vitrail.data.transforms.processors import to_timm
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.ops.relative import num_entries, square_of

LIBRARY = "timm"
TASKS = pooled.TASKS
FILE = "model.safetensors"
HEAD = "head"
IGNORED = ("*relative_position_index", "mask_token", "lm_head.*")
TABLE = "attn.relative_position_bias_table"
SHARED = "rel_pos_bias.relative_position_bias_table"
EPS = 1e-6
BLOCK = [
    *layer("norm1", "norm1"),
    same("attention.qkv.weight", "attn.qkv.weight"),
    stacked("attention.qv_bias", "attn.q_bias", "attn.v_bias"),
    *layer("attention.out", "attn.proj"),
    same("branch1.scale.gamma", "gamma_1"),
    *layer("norm2", "norm2"),
    *layer("mlp.fc1", "mlp.fc1"),
    *layer("mlp.fc2", "mlp.fc2"),
    same("branch2.scale.gamma", "gamma_2"),
]


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By a key without bias, or relative positions; not timm's Eva."""
    bias = any(name.endswith((".q_bias", "relative_position_bias_table")) for name in names)
    first = {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} <= set(names)
    return first and bias and not timm_eva.is_eva(names, beside)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """The mean of the patches, then a norm; or a norm, then the class token or the mean.

    Raises:
        UserError: positions of two kinds.
    """
    meta = timm_config.read(beside)
    timm_config.require_norm(shapes, meta)
    kernel = shapes["patch_embed.proj.weight"]
    learned = "pos_embed" in shapes
    tables = [shapes[name] for name in (f"blocks.0.{TABLE}", SHARED) if name in shapes]
    if learned + len(tables) > 1:
        raise UserError("it has positions of more than one kind, which Vitrail does not compute; use timm")
    heads = tables[0][1] if tables else meta.heads(kernel[0])
    block = {
        "mlp": "gelu",
        "norm_eps": EPS,
        "qkv_bias": "blocks.0.attn.q_bias" in shapes,
        "key_bias": False,
        "layer_scale": (meta.args.get("init_values") or 0.1) if "blocks.0.gamma_1" in shapes else None,
    }
    width = shapes["blocks.0.attn.qkv.weight"][0] // 3
    if width != kernel[0]:
        block["head_dim"] = width // heads
    vit = {
        **_geometry(shapes, meta, kernel, tables[0][0] if tables else None),
        "positions": "learned" if learned else "relative" if tables else "none",
        "resampling": "bicubic_antialias" if learned else "bicubic",
        "depth": depth_of(shapes, "blocks.", meta.args.get("depth")),
        "heads": heads,
        "mlp_dim": shapes["blocks.0.mlp.fc1.weight"][0],
        "block": block,
        "final_norm": "norm.weight" in shapes,
    }
    config = vit_config(vit)
    normed, usual = "fc_norm.weight" in shapes, "avg" if meta.architecture else "token"
    assumed = []
    if not meta.architecture:
        assumed.append(f"{heads} heads, gelu, LayerNorm eps {EPS:g}: timm's and Microsoft's; no config gives others")
    outputs = shapes.get("head.weight", (0,))[0]
    preprocess, why = timm_config.preprocess(meta, shapes, config.channels, config.image_size)
    return pooled.describe(
        config,
        pool="mean" if normed or (meta.pool() or usual) == "avg" else "cls",
        head=HeadConfig(norm=normed),
        outputs=outputs,
        classes=meta.names(outputs) or beside.classes if outputs else (),
        preprocess=preprocess,
        assumed=[line for line in (*assumed, why) if line],
        layout=["shared"] if SHARED in shapes else [],
    )


def rules(description: Description) -> list[Rule]:
    """In the layout ``shared`` one table of relative positions serves all blocks; one per block is written."""
    model = pooled.read(description)
    table = SHARED if "shared" in (model.layout or ()) else "blocks.{i}." + TABLE
    return [
        same("vit.class_token", "cls_token"),
        same("vit.positions.embedding", "pos_embed"),
        *layer("vit.embed.projection", "patch_embed.proj"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "blocks.{i}.", BLOCK),
        *repeated(model.vit.depth, "vit.blocks.{i}.", table, [same("attention.relative.table", "")]),
        *layer("vit.norm", "norm"),
        *layer("head.norm", "fc_norm"),
        *layer("head.output", "head"),
    ]


def lacks(description: Description) -> str | None:
    """What no Beit of timm can be made to be by its arguments."""
    model = pooled.read(description)
    vit, block, head = model.vit, model.vit.block, model.head
    return first(
        (
            ("bias of keys", block.qkv_bias and block.key_bias),
            ("stem but the patch projection", vit.embed.kind != "patch"),
            ("overlapping patches", vit.patch_embed.stride not in (None, vit.patch_size)),
            ("padding of images", vit.patch_embed.pad),
            ("image that its patches do not cover", vit.patch_embed.drop),
            ("norm of patches", vit.patch_embed.norm),
            ("patches without bias", not vit.patch_embed.bias),
            (f"{vit.positions} positions", vit.positions not in ("learned", "relative", "none")),
            ("plain attention without any bias", not block.qkv_bias and vit.positions != "relative"),
            ("model without class token", not vit.class_token),
            ("class token without position", not vit.class_position and vit.positions == "learned"),
            ("distillation token", vit.distillation_token),
            ("register tokens", bool(vit.registers)),
            ("norm before the blocks", vit.pre_norm),
            ("post-norm blocks", block.order != "pre"),
            (f"{block.mlp} in its MLPs", block.mlp != "gelu"),
            (f"LayerNorm eps {block.norm_eps:g}", block.norm_eps != EPS),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            ("QK-norm", block.qk_norm),
            ("attention without output bias", not block.out_bias),
            (f"{model.pool} pooling", model.pool not in ("cls", "mean")),
            ("norm before and after pooling", vit.final_norm and head.norm),
            ("norm after the class token alone", head.norm and model.pool != "mean"),
            ("model without a norm at its end", not vit.final_norm and not head.norm),
            ("head with hidden layer", head.hidden is not None),
            ("head without bias", bool(model.outputs) and not head.bias),
            ("projection of its features", bool(model.outputs) and not model.labels),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json``; ``timm.create_model("local-dir:…", pretrained=True)`` opens the folder."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    pool = "avg" if model.pool == "mean" else "token"
    args = {
        "img_size": plain(vit.image_size),
        "patch_size": plain(vit.patch_size),
        "in_chans": vit.channels,
        "num_classes": model.outputs,
        "global_pool": pool,
        "use_fc_norm": model.head.norm,
        "embed_dim": vit.dim,
        "depth": vit.depth,
        "num_heads": vit.heads,
        "qkv_bias": block.qkv_bias,
        "mlp_ratio": (vit.mlp_dim + 0.5) / vit.dim,  # it rounds down
        "init_values": 0.0 if block.layer_scale is None else block.layer_scale or 1e-5,  # it takes 0 for "none"
        "use_abs_pos_emb": vit.positions == "learned",
        "use_rel_pos_bias": vit.positions == "relative",
        "use_shared_rel_pos_bias": False,
    }
    settings = to_timm(model.preprocess) if model.preprocess else {"input_size": [vit.channels, *vit.image_size]}
    weights = {"num_classes": model.outputs, "first_conv": "patch_embed.proj", "classifier": "head"}
    config = {
        "architecture": "beit_base_patch16_224",
        "num_classes": model.outputs,
        "num_features": vit.dim,
        "global_pool": pool,
        **({"label_names": list(model.classes)} if model.classes else {}),
        "model_args": args,
        "pretrained_cfg": {**settings, **weights, "fixed_input_size": True, "custom_load": False},
    }
    return {"config.json": config}


def _geometry(
    shapes: Shapes, meta: timm_config.TimmConfig, kernel: tuple[int, ...], entries: int | None
) -> dict[str, Any]:
    """Sizes, from the positions or the length of a table of relative ones, else from the config alone.

    Raises:
        UserError: none of them determines it.
    """
    positions = shapes["pos_embed"][1] - 1 if "pos_embed" in shapes else None
    for height, width in meta.image_sizes():
        grid = (height // kernel[2], width // kernel[3])
        if positions in (None, grid[0] * grid[1]) and entries in (None, num_entries(grid, class_token=True)):
            return geometry(kernel, grid[0] * grid[1], (height, width))
    if entries is not None:
        positions = square_of(entries, class_token=True) ** 2
    if not positions:
        raise UserError("its image size is not stored in it; put timm's config.json with img_size next to the file")
    return geometry(kernel, positions)
