"""timm's VisionTransformer and its distilled variants (https://github.com/huggingface/pytorch-image-models, 1.0).

The names are also those of Meta's DeiT, DeiT III, DINO and MAE, which grew from timm. A file alone does not tell the
heads, the activation, the eps of the norms or the preprocessing: timm's ``config.json`` next to it does.

With ``class_position`` registers have positions too in timm: on reading they join the registers, and zeros are written.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints import pooled, timm_config, timm_eva
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.rules import Rule, layer, mapped, repeated, same, stacked_layer, under
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, vit_config
from vitrail.checkpoints.tensors_only import first
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.vit import ViTConfig

LIBRARY = "timm"
TASKS = pooled.TASKS
FILE = "model.safetensors"
HEAD = "head"
# Decoders and heads of self-supervised training; SigLIP's pool, where the config asks for another
IGNORED = ("mask_token", "masked_embed", "decoder_*", "head.mlp.*", "head.last_layer*", "attn_pool.*")
STEM = "patch_embed.backbone."
BLOCK = [
    *layer("norm1", "norm1"),
    *layer("attention.qkv", "attn.qkv"),
    *layer("attention.q_norm", "attn.q_norm"),
    *layer("attention.k_norm", "attn.k_norm"),
    *layer("attention.out", "attn.proj"),
    same("branch1.scale.gamma", "ls1.gamma"),
    *layer("norm2", "norm2"),
    *layer("mlp.fc2", "mlp.fc2"),
    same("branch2.scale.gamma", "ls2.gamma"),
]
POOL = [
    same("probe", "latent"),
    *(rule for name in ("q", "kv", "norm", "mlp.fc1", "mlp.fc2") for rule in layer(name, name)),
    *layer("out", "proj"),
]
UNIT = [
    rule for i in (1, 2, 3) for rule in (same(f"conv{i}.weight", f"conv{i}.weight"), *layer(f"norm{i}", f"norm{i}"))
] + [same("downsample.conv.weight", "downsample.conv.weight"), *layer("downsample.norm", "downsample.norm")]


def canonical(name: str) -> str:
    """DeiT III's own files have ``gamma_1`` where timm has ``ls1.gamma``."""
    for i in ("1", "2"):
        name = name.replace(f".gamma_{i}", f".ls{i}.gamma")
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the names of the first block; not Meta's own DINO models, nor BEiT, nor timm's Eva."""
    beit = any(name.endswith((".q_bias", "relative_position_bias_table")) for name in names)
    plain = {"blocks.0.attn.qkv.weight", "patch_embed.proj.weight"} <= set(names) and not beit
    return plain and not (is_dinov2(names) or is_dinov3(names) or timm_eva.is_eva(names, beside))


def is_dinov2(names: Collection[str]) -> bool:
    """Meta's names differ from timm's in what one of the models lacks."""
    own = ("mask_token", "register_tokens", "blocks.0.mlp.w12.weight")
    return "blocks.0.ls1.gamma" in names and any(name in names for name in own) and not is_dinov3(names)


def is_dinov3(names: Collection[str]) -> bool:
    """Meta's names are those of timm's older models and others."""
    return "rope_embed.periods" in names or "storage_tokens" in names


def describe(shapes: Shapes, beside: Beside) -> Description:
    """From the shapes, then the config, then what is usual in timm.

    Raises:
        UserError: what looks like timm's ViT and computes something that we do not have.
    """
    meta = timm_config.read(beside)
    _refuse(shapes)
    timm_config.require_norm(shapes, meta)
    embed, kernel = _stem(shapes)
    dim, pre_norm = kernel[0], "norm_pre.weight" in shapes
    kind, mlp_dim = _mlp(shapes, meta)
    tokens = {
        "class_token": "cls_token" in shapes,
        "distillation_token": "dist_token" in shapes,
        "registers": shapes.get("reg_token", (1, 0))[1],
    }
    block = {
        "mlp": kind,
        "norm_eps": meta.norm_eps(pre_norm),
        "qkv_bias": "blocks.0.attn.qkv.bias" in shapes,
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        "layer_scale": (meta.args.get("init_values") or 1e-5) if "blocks.0.ls1.gamma" in shapes else None,
    }
    heads = dim // shapes["blocks.0.attn.q_norm.weight"][0] if block["qk_norm"] else meta.heads(dim)
    vit = {
        **positions(shapes, meta, kernel, sum(tokens.values())),
        **tokens,
        "depth": depth_of(shapes, "blocks.", meta.args.get("depth")),
        "heads": heads,
        "mlp_dim": mlp_dim,
        "embed": embed,
        "block": block,
        "pre_norm": pre_norm,
        "final_norm": "norm.weight" in shapes,
        "resampling": "bicubic_antialias",
    }
    config = vit_config(vit)
    assumed = []
    if not meta.architecture:
        assumed.append(
            f"{heads} heads, {kind}, LayerNorm eps {config.block.norm_eps:g}: timm's usual for such names and width "
            f"{dim}; for others put timm's config.json next to the file"
        )
    outputs = shapes.get("head.weight", (0,))[0]
    pool, how = _pool(shapes, meta, outputs)
    labels, what = meta.labels(outputs, pre_norm, len(beside.classes)) if outputs else (True, None)
    preprocess, why = timm_config.preprocess(meta, shapes, config.channels, config.image_size)
    return pooled.describe(
        config,
        pool=pool,
        head=HeadConfig(
            hidden=shapes["pre_logits.fc.weight"][0] if "pre_logits.fc.weight" in shapes else None,
            norm="fc_norm.weight" in shapes,
            bias="head.bias" in shapes and meta.config.get(timm_config.OWN, {}).get("head_bias", True),
            distilled=pool == "cls_distillation",
        ),
        outputs=outputs,
        labels=labels,
        classes=(meta.names(outputs) or beside.classes) if labels and outputs else (),
        preprocess=preprocess,
        assumed=[line for line in (*assumed, how, what, why) if line],
        layout=[
            *(["split"] if "blocks.0.mlp.fc1_g.weight" in shapes else []),
            *(["unbiased"] if "head.bias" not in shapes else []),
        ],
    )


def rules(description: Description) -> list[Rule]:
    """In the layout ``split`` SwiGLU's gate and value are two tensors (``SwiGLU``), not one (``SwiGLUPacked``, which is
    written). In ``unbiased`` the head has no bias; a model that is written gets one of zeros."""
    model = pooled.read(description)
    vit = model.vit
    split, unbiased = ("split" in (model.layout or ())), ("unbiased" in (model.layout or ()))
    fc1 = stacked_layer("mlp.fc1", "mlp.fc1_g", "mlp.fc1_x") if split else layer("mlp.fc1", "mlp.fc1")
    return [
        same("vit.class_token", "cls_token"),
        same("vit.distillation_token", "dist_token"),
        *placed(vit),
        *_embed(vit),
        *layer("vit.pre_norm", "norm_pre"),
        *repeated(vit.depth, "vit.blocks.{i}.", "blocks.{i}.", [*BLOCK, *fc1]),
        *layer("vit.norm", "norm"),
        *under("pool.", "attn_pool.", POOL),
        *layer("head.norm", "fc_norm"),
        *layer("head.hidden", "pre_logits.fc"),
        *(layer("head.output", "head") if model.head.bias or unbiased else [_ZERO_BIAS]),
        *layer("head.distillation", "head_dist"),
    ]


def lacks(description: Description) -> str | None:
    """What no VisionTransformer of timm can be made to be by its arguments."""
    model = pooled.read(description)
    vit, block, head = model.vit, model.vit.block, model.head
    resnet = vit.embed.kind == "resnet"
    return first(
        (
            ("convolutional stem", vit.embed.kind == "conv"),
            ("ResNet of these layers or eps", vit.embed.kind == "resnet" and not timm_config.is_known(vit.embed)),
            ("overlapping patches", vit.patch_embed.stride not in (None, vit.patch_size) and not resnet),
            ("padding of images", vit.patch_embed.pad),
            ("image that its patches do not cover", vit.patch_embed.drop),
            ("norm of patches", vit.patch_embed.norm),
            ("bias of patches before a norm", vit.pre_norm and vit.patch_embed.bias),
            ("patches without bias", not vit.pre_norm and not vit.patch_embed.bias),
            (f"{vit.positions} positions", vit.positions not in ("learned", "none")),
            (f"LayerNorm eps {block.norm_eps:g}", block.norm_eps not in (1e-6, 1e-5)),
            ("LayerNorm eps 1e-05 in such a model", block.norm_eps == 1e-5 and _special(model)),
            ("post-norm blocks", block.order != "pre"),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            ("keys without bias", not block.key_bias),
            ("attention without output bias", not block.out_bias),
            ("SwiGLU in a hybrid or distilled model", block.mlp == "swiglu" and (resnet or vit.distillation_token)),
            ("SwiGLU with attention pooling", block.mlp == "swiglu" and model.pool == "attention"),
            (f"{model.pool} pooling", model.pool in ("cls_mean", "cls4_mean")),
            ("pooling of a distilled model by one token", vit.distillation_token and not head.distilled),
            ("distilled model with registers", vit.distillation_token and bool(vit.registers)),
            ("distilled model whose class token has no position", vit.distillation_token and not vit.class_position),
            ("distilled hybrid", vit.distillation_token and resnet),
            ("head with hidden layer", head.hidden is not None),
            ("norm before and after pooling", vit.final_norm and head.norm),
            ("distilled head without bias", head.distilled and not head.bias),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json``; ``timm.create_model("local-dir:…", pretrained=True)`` opens the folder."""
    model = pooled.read(description)
    return {"config.json": timm_config.config_json(model)}


def _refuse(shapes: Shapes) -> None:
    """Parts that we do not have."""
    inner = ("blocks.0.attn.norm.weight", "blocks.0.mlp.norm.weight")
    problem = {
        "RMSNorm": "blocks.0.norm1.bias" not in shapes,
        "norms inside of attention or MLP": any(name in shapes for name in inner),
        "another attention pool": any(n.startswith("attn_pool.") for n in shapes) and "attn_pool.latent" not in shapes,
        "two norms, before and after pooling": "norm.weight" in shapes and "fc_norm.weight" in shapes,
    }
    for what, there in problem.items():
        if there:
            raise UserError(f"it has {what}, which Vitrail does not compute; use a plain ViT")


def _stem(shapes: Shapes) -> tuple[dict[str, Any], tuple[int, ...]]:
    """Its config, and the shape that its kernel would have if it were one projection.

    Raises:
        UserError: a stem that is neither patches nor BiT's ResNet.
    """
    dim, channels, *patch = shapes["patch_embed.proj.weight"]
    if not any(name.startswith(STEM) for name in shapes):
        return {"kind": "patch", "bias": "patch_embed.proj.bias" in shapes}, (dim, channels, *patch)
    layers = tuple(
        depth_of(shapes, f"{STEM}stages.{stage}.blocks.") for stage in range(depth_of(shapes, f"{STEM}stages."))
    )
    root = shapes.get(f"{timm_config.root(layers)}.conv.weight")
    if root is None or len(root) != 4:
        raise UserError("its stem is neither a patch projection nor BiT's ResNet; Vitrail cannot compute it")
    stride = timm_config.stride(layers)
    eps = {"weight_eps": timm_config.WEIGHT_EPS, "weight_eps_of": "variance", "norm_eps": timm_config.GROUP_EPS}
    embed = {"kind": "resnet", "layers": layers, "width": root[0], **eps}
    return embed, (dim, root[1], *(side * stride for side in patch))


def _mlp(shapes: Shapes, meta: timm_config.TimmConfig) -> tuple[str, int]:
    """Its kind and width; a packed SwiGLU's first matrix has twice the rows."""
    width = shapes["blocks.0.mlp.fc2.weight"][1]
    gated = shapes.get("blocks.0.mlp.fc1.weight", (2 * width,))[0] == 2 * width
    activation = meta.activation()
    if gated and meta.args.get("act_layer") and activation != "silu":
        raise UserError(f"it has an MLP with a gate of {activation}, which Vitrail does not compute; use a plain ViT")
    if (activation == "silu" and not gated) or (gated and "attn_pool.latent" in shapes):
        raise UserError("it has an MLP of SiLU without a gate, which Vitrail does not compute; use a plain ViT")
    return "swiglu" if gated else activation, width


def positions(shapes: Shapes, meta: timm_config.TimmConfig, kernel: tuple[int, ...], num_prefix: int) -> dict[str, Any]:
    """Sizes, and whether the tokens before the patches have positions too.

    Raises:
        UserError: none (rotary ones leave no tensor), or a number that fits no size.
    """
    sizes = meta.image_sizes()
    if "pos_embed" not in shapes:
        if meta.args.get("pos_embed", "learn") not in ("", "none") or not sizes:
            raise UserError("it has no pos_embed: Vitrail has not timm's rotary positions; use a plain ViT")
        (height, width), (_, _, *patch) = sizes[0], kernel
        return {**geometry(kernel, (height // patch[0]) * (width // patch[1]), sizes[0]), "positions": "none"}
    total = shapes["pos_embed"][1]
    settled = meta.args.get("no_embed_class")
    for image_size in (*sizes, None):
        for own in (num_prefix, 0) if settled is None else (0 if settled else num_prefix,):
            try:
                found = geometry(kernel, total - own, image_size)
            except (UserError, ValueError):
                continue
            return {**found, "class_position": own > 0 or num_prefix == 0}
    raise UserError(f"its {total} positions fit no square; put timm's config.json with img_size next to the file")


def _pool(shapes: Shapes, meta: timm_config.TimmConfig, outputs: int) -> tuple[Any, str | None]:
    """How tokens become one vector, and what of it was assumed.

    Raises:
        UserError: a pool that we do not have.
    """
    named, latent, tokens = meta.pool(), "attn_pool.latent" in shapes, "cls_token" in shapes
    if "head_dist.weight" in shapes:
        return "cls_distillation", None
    if named == "map" or (named is None and latent):
        if tokens and "pool_include_prefix" not in meta.args:
            raise UserError(
                "its config does not state whether the attention pool includes the class token; "
                "set pool_include_prefix to false in config.json's model_args if it does not"
            )
        return "attention", None
    if named in timm_config.POOLS:
        return timm_config.POOLS[named], None
    if named is not None and (named or outputs):
        raise UserError(f"global_pool {named!r} is none of {', '.join(timm_config.POOLS)}; Vitrail cannot compute it")
    if "fc_norm.weight" in shapes or not tokens:
        return "mean", None if "fc_norm.weight" in shapes else "pooling: the mean of the patches; it has no class token"
    if "dist_token" in shapes:
        return "cls", "pooling: the class token alone; timm takes its mean with the distillation token"
    return "cls", None


def placed(vit: ViTConfig) -> list[Rule]:
    """Registers and positions; with ``class_position`` timm's registers have some too."""
    if not (vit.registers and vit.class_position and vit.positions == "learned"):
        return [same("vit.registers", "reg_token"), same("vit.positions.embedding", "pos_embed")]
    before, count = int(vit.class_token), vit.registers
    after = before + count

    def without(value: Tensor) -> Tensor:
        return torch.cat((value[:, :before], value[:, after:]), dim=1)

    def padded(value: Tensor) -> Tensor:
        return torch.cat((value[:, :before], value.new_zeros(1, count, vit.dim), value[:, before:]), dim=1)

    return [
        Rule(
            "vit.registers",
            ("reg_token", "pos_embed"),
            lambda parts: parts[0] + parts[1][:, before:after],
            lambda value: (value, value.new_empty(0)),  # the rule below writes all positions
        ),
        mapped("vit.positions.embedding", "pos_embed", without, padded),
    ]


def _embed(vit: ViTConfig) -> list[Rule]:
    """Patch projection, and the ResNet before it."""
    projection = layer("vit.embed.projection", "patch_embed.proj")
    if vit.embed.kind != "resnet":
        return projection
    root, stages = f"{timm_config.root(vit.embed.layers)}.", f"{STEM}stages."
    return [
        *projection,
        *under("vit.embed.root.", root, [same("conv.weight", "conv.weight"), *layer("norm", "norm")]),
        *(
            rule
            for stage, units in enumerate(vit.embed.layers)
            for rule in repeated(units, f"vit.embed.stages.{stage}.{{i}}.", f"{stages}{stage}.blocks.{{i}}.", UNIT)
        ),
    ]


def _special(model: PooledModel) -> bool:
    """Is its base one whose norms have timm's own eps?"""
    return model.vit.embed.kind == "resnet" or model.vit.distillation_token or model.vit.block.mlp == "swiglu"


_ZERO_BIAS = Rule(
    "head.output.weight",
    ("head.weight", "head.bias"),
    lambda parts: parts[0],
    lambda value: (value, value.new_zeros(len(value))),
)
