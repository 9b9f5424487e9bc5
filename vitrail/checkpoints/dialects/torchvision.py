"""torchvision's VisionTransformer: vit_b_16 and the others (torchvision.models.vision_transformer).

A model without a head is torchvision's with ``model.heads = torch.nn.Identity()``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, repeated, same
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, usual_heads, vit_config
from vitrail.data.indexing.names import told_apart
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.vit import ViTConfig

LIBRARY = "torchvision"
TASKS = pooled.TASKS
FILE = "model.safetensors"
HEAD = "heads.head"
IGNORED = ()
EPS = 1e-6
BLOCK = [
    *layer("norm1", "ln_1"),
    same("attention.qkv.weight", "self_attention.in_proj_weight"),
    same("attention.qkv.bias", "self_attention.in_proj_bias"),
    *layer("attention.out", "self_attention.out_proj"),
    *layer("norm2", "ln_2"),
    *layer("mlp.fc1", "mlp.0"),
    *layer("mlp.fc2", "mlp.3"),
]
_PUBLISHED = {
    (768, 16): "vit_b_16", (768, 32): "vit_b_32", (1024, 16): "vit_l_16", (1024, 32): "vit_l_32",
    (1280, 14): "vit_h_14",
}  # fmt: skip


def canonical(name: str) -> str:
    """With the MLP's names since version 0.14."""
    return name.replace(".mlp.linear_1.", ".mlp.0.").replace(".mlp.linear_2.", ".mlp.3.")


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the names of the first block."""
    return "encoder.layers.encoder_layer_0.ln_1.weight" in names and "encoder.pos_embedding" in names


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Class token, learned positions on a square, pre-norm blocks.

    Raises:
        UserError: a convolutional stem.
    """
    if "conv_proj.weight" not in shapes:
        raise UserError(
            "it has torchvision's convolutional stem, which Vitrail does not compute; use a vit_b_16 or kin"
        )
    kernel, assumed = shapes["conv_proj.weight"], []
    heads = beside.config.get("num_heads")
    if heads is None:
        heads = usual_heads(kernel[0])
        assumed.append(f"attention heads: {heads}, usual for width {kernel[0]}; else put num_heads into config.json")
    vit = {
        **geometry(kernel, shapes["encoder.pos_embedding"][1] - 1, beside.config.get("image_size")),
        "depth": depth_of(shapes, "encoder.layers.encoder_layer_"),
        "heads": heads,
        "mlp_dim": shapes["encoder.layers.encoder_layer_0.mlp.0.weight"][0],
        "block": {"norm_eps": EPS},
        "resampling": "bicubic_corners",
    }
    config = vit_config(vit)
    outputs, classes = shapes.get("heads.head.weight", (0,))[0], beside.classes
    if outputs == 1000 and not classes:
        classes = _imagenet()
        assumed.append("classes: ImageNet's, in torchvision's order; for others put classes.json next to the file")
    preprocess = tensors_only.preprocess(beside)
    if preprocess is None and config.channels == 3:
        name, preprocess = _transforms(config)
        assumed.append(f"preprocessing: of torchvision's {name}; for another put preprocessor_config.json next to it")
    return pooled.describe(
        config,
        pool="cls",
        head=HeadConfig(
            hidden=shapes.get("heads.pre_logits.weight", (None,))[0],
            bias="heads.head.bias" in shapes or not outputs,
        ),
        outputs=outputs,
        classes=classes,
        preprocess=preprocess,
        assumed=assumed,
    )


def rules(description: Description) -> list[Rule]:
    model = pooled.read(description)
    return [
        same("vit.class_token", "class_token"),
        same("vit.positions.embedding", "encoder.pos_embedding"),
        *layer("vit.embed.projection", "conv_proj"),
        *repeated(model.vit.depth, "vit.blocks.{i}.", "encoder.layers.encoder_layer_{i}.", BLOCK),
        *layer("vit.norm", "encoder.ln"),
        *layer("head.hidden", "heads.pre_logits"),
        *layer("head.output", "heads.head"),
    ]


def lacks(description: Description) -> str | None:
    """What torchvision.models.VisionTransformer cannot be."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    return tensors_only.lacks(model) or tensors_only.first(
        (
            (f"{vit.embed.kind} stem", vit.embed.kind != "patch"),
            ("patches without bias", not vit.patch_embed.bias),
            ("norm of patches", vit.patch_embed.norm),
            (f"{vit.positions} positions", vit.positions != "learned"),
            ("model without class token", not vit.class_token),
            (f"images of {vit.channels} channels", vit.channels != 3),
            ("rectangular images", vit.image_size[0] != vit.image_size[1]),
            ("rectangular patches", vit.patch_size[0] != vit.patch_size[1]),
            ("norm before the blocks", vit.pre_norm),
            ("model without a final norm", not vit.final_norm),
            (f"LayerNorm with eps {block.norm_eps}", block.norm_eps != EPS),
            (f"{block.mlp} activation", block.mlp != "gelu"),
            ("LayerScale", block.layer_scale is not None),
            ("attention without bias", not (block.qkv_bias and block.out_bias)),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            (f"{model.pool} pooling", model.pool != "cls"),
            *tensors_only.beyond_a_linear_head(model),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """The arguments of VisionTransformer, and our JSON."""
    model = pooled.read(description)
    vit = model.vit
    config = {
        "image_size": vit.image_size[0],
        "patch_size": vit.patch_size[0],
        "num_layers": vit.depth,
        "num_heads": vit.heads,
        "hidden_dim": vit.dim,
        "mlp_dim": vit.mlp_dim,
        "dropout": vit.block.dropout,
        "attention_dropout": vit.block.attention_dropout,
        "num_classes": model.outputs,
        "representation_size": model.head.hidden,
    }
    return tensors_only.sidecars(model, config)


def _imagenet() -> tuple[str, ...]:
    """ImageNet's categories; older versions name two pairs of classes alike."""
    from torchvision.models._meta import _IMAGENET_CATEGORIES as names

    return told_apart(names, range(len(names)))


def _transforms(vit: ViTConfig) -> tuple[str, PreprocessConfig]:
    """Whose transforms fit the model best, and they: its own by width, patch and image size, else vit_b_16's scaled."""
    from torchvision.models import get_model_weights

    name, side = _PUBLISHED.get((vit.dim, vit.patch_size[0]), "vit_b_16"), vit.image_size[0]
    published = [(each.name, each.transforms()) for each in get_model_weights(name)]
    weights, chosen = next((pair for pair in published if pair[1].crop_size[0] == side), published[0])
    resized = round(chosen.resize_size[0] * side / chosen.crop_size[0])
    config = PreprocessConfig(
        size=(side, side),
        resize="crop",
        crop_pct=side / resized,
        interpolation=chosen.interpolation.value,
        mean=tuple(chosen.mean),
        std=tuple(chosen.std),
    )
    return f"{name} {weights}", config
