"""Hugging Face DINOv2 without registers: Dinov2Model, Dinov2ForImageClassification, the backbone of others.

The head gets the class token and the mean of the patches, side by side.
"""

from __future__ import annotations

from collections.abc import Collection

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.rules import Rule, layer, repeated, same, stacked_layer
from vitrail.checkpoints.shapes import Shapes
from vitrail.files import Json
from vitrail.nn.pooling import PoolKind

LIBRARY = "huggingface"
TASKS = hf.TASKS
FILE = hf.FILE
HEAD = "classifier"
PREFIX = "dinov2."
IGNORED = ("dinov2.embeddings.mask_token",)
BLOCK = [
    *hf.QKV,
    *hf.ATTENTION_OUT,
    *layer("norm1", "norm1"),
    *layer("norm2", "norm2"),
    same("branch1.scale.gamma", "layer_scale1.lambda1"),
    same("branch2.scale.gamma", "layer_scale2.lambda1"),
]


def canonical(name: str) -> str:
    """With the prefix that bare models leave out, under the names of version 4."""
    return hf.from_5(hf.prefixed(name, PREFIX, ("classifier.",)))


def matches(names: Collection[str], beside: Beside) -> bool:
    """By LayerScale's name, without registers."""
    return (
        "dinov2.encoder.layer.0.layer_scale1.lambda1" in names
        and "dinov2.embeddings.position_embeddings" in names
        and "dinov2.embeddings.register_tokens" not in names
        and beside.config.get("model_type", "dinov2") == "dinov2"
    )


def describe(shapes: Shapes, beside: Beside) -> Description:
    return describe_as(PREFIX, shapes, beside)


def describe_as(prefix: str, shapes: Shapes, beside: Beside, **more: Json) -> Description:
    """Class token, learned positions, LayerScale, GELU or SwiGLU.

    Args:
        more: further settings of :class:`ViTConfig`.
    """
    config, mlp = hf.Config(beside.config), f"{prefix}encoder.layer.0.mlp"
    packed, split = f"{mlp}.weights_in.weight", f"{mlp}.gate_proj.weight"
    swiglu = packed in shapes or split in shapes
    hidden = split if swiglu else f"{mlp}.fc1.weight"
    mlp_dim = shapes[packed][0] // 2 if packed in shapes else shapes[hidden][0]
    vit = hf.settings(shapes, config, prefix=prefix, eps=1e-6, num_prefix=1, swiglu=swiglu, mlp_dim=mlp_dim)
    vit["block"]["layer_scale"] = float(beside.config.get("layerscale_value", 1.0))
    outputs = shapes.get("classifier.weight", (0,))[0]
    pool: PoolKind = "cls_mean" if outputs else "cls"
    layout = ["split"] if split in shapes else []
    return hf.describe(vit | more, config, beside, pool=pool, outputs=outputs, layout=layout)


def rules(description: Description) -> list[Rule]:
    return rules_as(PREFIX, pooled.read(description))


def rules_as(prefix: str, model: PooledModel) -> list[Rule]:
    """The table with any prefix. In the layout ``split`` a SwiGLU's gate and value are two layers (transformers 5 in
    memory)."""
    if model.vit.block.mlp != "swiglu":
        mlp = [*layer("mlp.fc1", "mlp.fc1"), *layer("mlp.fc2", "mlp.fc2")]
    elif "split" in (model.layout or ()):
        mlp = [*stacked_layer("mlp.fc1", "mlp.gate_proj", "mlp.up_proj"), *layer("mlp.fc2", "mlp.down_proj")]
    else:
        mlp = [*layer("mlp.fc1", "mlp.weights_in"), *layer("mlp.fc2", "mlp.weights_out")]
    return [
        *hf.embeddings(prefix),
        same("vit.registers", f"{prefix}embeddings.register_tokens"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", prefix + "encoder.layer.{i}.", [*BLOCK, *mlp]),
        *layer("head.output", "classifier"),
    ]


def lacks(description: Description) -> str | None:
    """What a Dinov2Model cannot be."""
    return lacks_as(pooled.read(description), {})


def lacks_as(model: PooledModel, own: dict[str, bool]) -> str | None:
    """The same, corrected by ``own``."""
    vit, classes = model.vit, bool(model.outputs)
    return hf.lacks(
        model,
        {
            "LayerScale": False,
            "blocks without LayerScale": vit.block.layer_scale is None,
            "SwiGLU": False,
            "MLP of this width": mlp_ratio(model) is None,
            "oblong images or patches": hf.oblong(model),
            "cls pooling": classes and model.pool == "cls",
            "cls_mean pooling": not classes and model.pool == "cls_mean",
            **own,
        },
    )


def mlp_ratio(model: PooledModel) -> int | None:
    """The integer from which the library computes the MLP's width, or None: none gives this width."""
    dim, wanted, swiglu = model.vit.dim, model.vit.mlp_dim, model.vit.block.mlp == "swiglu"
    for ratio in range(1, 2 * wanted // dim + 2):
        width = (int(dim * ratio * 2 / 3) + 7) // 8 * 8 if swiglu else dim * ratio
        if width == wanted:
            return ratio
    return None


def sidecars(description: Description) -> dict[str, Json]:
    """``config.json`` and ``preprocessor_config.json``."""
    model = pooled.read(description)
    architecture = "Dinov2ForImageClassification" if model.outputs else "Dinov2Model"
    return sidecars_as(model, "dinov2", architecture, use_mask_token=False)


def sidecars_as(model: PooledModel, kind: str, architecture: str, **more: Json) -> dict[str, Json]:
    """The same of any model type."""
    vit = model.vit
    config = hf.config_json(
        model,
        kind,
        architecture,
        mlp_ratio=mlp_ratio(model),
        use_swiglu_ffn=vit.block.mlp == "swiglu",
        layerscale_value=vit.block.layer_scale,
        **more,
    )
    return hf.sidecars(model, config)
