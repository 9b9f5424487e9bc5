"""Hugging Face BEiT: BeitForImageClassification, BeitModel, the encoder of BeitForMaskedImageModeling; DiT's too.

Queries and values have biases, keys have none. Positions are biases of attention, a table a block or one for all, or
the usual learned ones (DiT).
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, repeated, same, stacked
from vitrail.checkpoints.shapes import Shapes, geometry
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.ops.relative import square_of

LIBRARY = "huggingface"
TASKS = hf.TASKS
FILE = hf.FILE
HEAD = "classifier"
IGNORED = ("*.relative_position_index", "beit.embeddings.mask_token", "lm_head.*", "layernorm.*")
TABLE = "relative_position_bias.relative_position_bias_table"
SHARED = f"beit.encoder.{TABLE}"
QKV = [
    stacked("attention.qkv.weight", *(f"attention.attention.{part}.weight" for part in ("query", "key", "value"))),
    stacked("attention.qv_bias", *(f"attention.attention.{part}.bias" for part in ("query", "value"))),
]
BLOCK = [rule for rule in hf.BLOCK if rule not in hf.QKV] + [
    *QKV,
    same("branch1.scale.gamma", "lambda_1"),
    same("branch2.scale.gamma", "lambda_2"),
]


def canonical(name: str) -> str:
    """With the ``beit.`` that bare models leave out, under the names of version 4."""
    name = hf.mlp_from_5(hf.from_5(hf.prefixed(name, "beit.", ("classifier.", "lm_head.", "layernorm."))))
    name = name.replace("beit.shared_position_bias.", "beit.encoder.relative_position_bias.")
    if ".encoder.layer." in name and ".attention." not in name:
        name = name.replace(".relative_position_bias.", ".attention.attention.relative_position_bias.")
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the names of the first block: a key without bias."""
    first = "beit.encoder.layer.0."
    return (
        f"{first}layernorm_before.weight" in names
        and f"{first}attention.attention.query.bias" in names
        and f"{first}attention.attention.key.bias" not in names
        and beside.config.get("model_type", "beit") == "beit"
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Relative or learned positions; the mean of the patches, then a norm, or a norm, then the class token."""
    config = hf.Config(beside.config)
    learned = "beit.embeddings.position_embeddings" in shapes
    own = f"beit.encoder.layer.0.attention.attention.{TABLE}"
    tables = [shapes[name] for name in (own, SHARED) if name in shapes]
    if learned + len(tables) > 1:
        raise UserError("it has positions of more than one kind, which cannot be computed here; use transformers")
    num_prefix, heads = 1 if learned else None, tables[0][1] if tables else None
    vit = hf.settings(shapes, config, prefix="beit.", eps=1e-12, num_prefix=num_prefix, heads=heads)
    vit["block"]["key_bias"] = False
    if "beit.encoder.layer.0.lambda_1" in shapes:
        vit["block"]["layer_scale"] = float(beside.config.get("layer_scale_init_value", 0.1))
    if tables:
        vit |= {"positions": "relative", "resampling": "bilinear", **_geometry(shapes, config, tables[0][0])}
    elif not learned:
        vit |= {"positions": "none", **_geometry(shapes, config, None)}
    pooler = "beit.pooler.layernorm.weight" in shapes
    outer = not pooler and "beit.layernorm.weight" not in shapes
    outputs = shapes.get("classifier.weight", (0,))[0]
    return hf.describe(
        vit | {"final_norm": not pooler},
        config,
        beside,
        pool="mean" if pooler else "cls",
        outputs=outputs,
        head=HeadConfig(norm=pooler),
        layout=[name for name, found in (("shared", SHARED in shapes), ("outer_norm", outer)) if found],
    )


def rules(description: Description) -> list[Rule]:
    """In the layout ``shared`` one table of relative positions serves all blocks; in ``outer_norm`` the final norm is
    outside the encoder, as in BeitForMaskedImageModeling."""
    model = pooled.read(description)
    layout = model.layout or frozenset()
    first = SHARED if "shared" in layout else "beit.encoder.layer.{i}.attention.attention." + TABLE
    table = [same("attention.relative.table", "")]
    return [
        *(rule for rule in hf.embeddings("beit.") if not rule.ours.startswith("vit.norm.")),
        *layer("vit.norm", "layernorm" if "outer_norm" in layout else "beit.layernorm"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "beit.encoder.layer.{i}.", BLOCK),
        *repeated(model.vit.depth, "vit.blocks.{i}.", first, table),
        *layer("head.norm", "beit.pooler.layernorm"),
        *layer("head.output", "classifier"),
    ]


def lacks(description: Description) -> str | None:
    """What a BeitForImageClassification cannot be."""
    model = pooled.read(description)
    vit, block, mean = model.vit, model.vit.block, model.pool == "mean"
    own = {
        "relative positions": False,
        "none positions": False,
        "LayerScale": False,
        "attention without a bias of keys": False,
        "bias of keys": block.key_bias,
        "attention without bias": not block.qkv_bias,
        "oblong images or patches": hf.oblong(model),
        "mean pooling": False,
        "mean pooling after the final norm": mean and vit.final_norm,
        "mean pooling without a norm after it": mean and not model.head.norm,
        "head with a norm": model.head.norm and not mean,
        "model without a final norm": not vit.final_norm and not mean,
    }
    return hf.lacks(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    vit, scale = model.vit, model.vit.block.layer_scale
    config = hf.config_json(
        model,
        "beit",
        "BeitForImageClassification" if model.outputs else "BeitModel",
        intermediate_size=vit.mlp_dim,
        use_relative_position_bias=vit.positions == "relative",
        use_shared_relative_position_bias=False,
        use_absolute_position_embeddings=vit.positions == "learned",
        use_mean_pooling=model.pool == "mean",
        use_mask_token=False,
        layer_scale_init_value=0.0 if scale is None else scale if scale > 0 else 1.0,  # ≤ 0 stands for none there
        drop_path_rate=vit.block.drop_path,
    )
    return hf.sidecars(model, config)


def _geometry(shapes: Shapes, config: hf.Config, entries: int | None) -> dict[str, Any]:
    """Sizes, from the length of a table of relative positions, or the config alone.

    Raises:
        UserError: the table is no square grid's, or not that of the config's image size.
    """
    kernel = shapes["beit.embeddings.patch_embeddings.projection.weight"]
    if entries is None:
        size = config.get("image_size", 224)
        height, width = (size, size) if isinstance(size, int) else size
        return geometry(kernel, (height // kernel[-2]) * (width // kernel[-1]), (height, width))
    side = square_of(entries, class_token=True)
    if not side:
        raise UserError(f"a table of {entries} relative positions is no square grid's; use transformers")
    return geometry(kernel, side * side, config.values.get("image_size"))
