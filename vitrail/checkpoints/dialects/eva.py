"""timm's Eva (https://github.com/huggingface/pytorch-image-models, 1.0): EVA, EVA-02, ViTs with rotary positions,
Perception Encoder and DINOv3.

Rotary positions leave no tensor (but ``rope.freqs`` of learned ones): the architecture's name or ``config.json`` says
what they are made of.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import parts, pooled, timm_config, timm_eva
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import timm
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.rotary_rows import Layout
from vitrail.checkpoints.rules import Rule, layer, mapped, repeated, same, stacked, stacked_layer, under
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, vit_config
from vitrail.checkpoints.tensors_only import first, plain
from vitrail.data.transforms.processors import to_timm
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import AttentionPoolConfig

LIBRARY = "timm"
TASKS = pooled.TASKS
FILE = "model.safetensors"
PARTS = (parts.ROTARY, parts.ATTENTION_NORM, parts.MLP_NORM, parts.ATTENTION_POOL)
IGNORED = ("mask_token", "lm_head.*", "attn_pool.*")
BASES = {timm_eva.EPS: "vit_base_patch16_rope_224", timm_eva.OTHER_EPS: "vit_pe_spatial_base_patch16_512"}
QKV = "blocks.0.attn.qkv.weight"
BLOCK = [
    *layer("norm1", "norm1"),
    *layer("attention.q_norm", "attn.q_norm"),
    *layer("attention.k_norm", "attn.k_norm"),
    *layer("attention.inner_norm", "attn.norm"),
    *layer("attention.out", "attn.proj"),
    same("branch1.scale.gamma", "gamma_1"),
    *layer("norm2", "norm2"),
    *layer("mlp.norm", "mlp.norm"),
    *layer("mlp.fc2", "mlp.fc2"),
    same("branch2.scale.gamma", "gamma_2"),
]


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the architecture's name, else by the names of tensors that no other class of timm's has."""
    return timm_eva.is_eva(names, beside)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """From the shapes, then the config, then what is usual for such a name.

    Raises:
        UserError: a model that computes something that we do not have.
    """
    meta = timm_config.read(beside)
    args, known = timm_eva.arguments(meta, shapes.keys())
    _refuse(shapes)
    kernel, width = shapes["patch_embed.proj.weight"], shapes["blocks.0.mlp.fc2.weight"][1]
    split, fused = "blocks.0.attn.q_proj.weight" in shapes, QKV in shapes
    heads = timm_eva.heads(meta, kernel[0])
    attention = shapes["blocks.0.attn.proj.weight"][1]
    swiglu = "blocks.0.mlp.fc1_g.weight" in shapes or shapes["blocks.0.mlp.fc1.weight"][0] == 2 * width
    tokens = {"class_token": "cls_token" in shapes, "registers": shapes.get("reg_token", (1, 0))[1]}
    biases = {part for part in ("q", "k", "v") if _bias(part, split) in shapes}
    full = fused and "blocks.0.attn.qkv.bias" in shapes
    rotary = timm_eva.rotary(args)
    pre_norm = "norm_pre.weight" in shapes
    block = {
        "order": "branch" if timm_eva.is_post_norm(meta) else "pre",
        "mlp": "swiglu" if swiglu else "gelu",
        "head_dim": attention // heads if attention != kernel[0] else None,
        "norm_eps": _eps(args, meta, pre_norm),
        "qkv_bias": full or bool(biases),
        "key_bias": full or "k" in biases or not biases,
        "qk_norm": "blocks.0.attn.q_norm.weight" in shapes,
        "attention_norm": "blocks.0.attn.norm.weight" in shapes,
        "mlp_norm": "blocks.0.mlp.norm.weight" in shapes,
        "layer_scale": (args.get("init_values") or 1e-5) if "blocks.0.gamma_1" in shapes else None,
    }
    vit = {
        **_geometry(shapes, meta, kernel, sum(tokens.values()), turns=rotary is not None),
        **tokens,
        "rotary": rotary,
        "embed": {"kind": "patch", "bias": "patch_embed.proj.bias" in shapes},
        "depth": depth_of(shapes, "blocks.", args.get("depth")),
        "heads": heads,
        "mlp_dim": width,
        "block": block,
        "pre_norm": pre_norm,
        "final_norm": "norm.weight" in shapes,
        "resampling": "bicubic_antialias",
    }
    config = vit_config(vit)
    assumed = []
    if not known:
        assumed.append(
            f"{heads} heads, LayerNorm eps {config.block.norm_eps:g}, rotary positions {rotary}: timm's usual for such "
            "names; for others put timm's config.json next to the file"
        )
    elif not meta.architecture:
        assumed.append(
            f"rotary positions {rotary}, {heads} heads: those of timm's {meta.hint}, by the file's name; for others "
            "put timm's config.json next to the file"
        )
    outputs = shapes.get("head.weight", (0,))[0]
    pool = _pool(shapes, meta, args.get("global_pool", "token"))
    labels, what = meta.labels(outputs, pre_norm, len(beside.classes)) if outputs else (True, None)
    preprocess, why = timm_config.preprocess(meta, shapes, config.channels, config.image_size)
    attends = pool == "attention"
    return pooled.describe(
        config,
        pool=pool,
        head=HeadConfig(norm="fc_norm.weight" in shapes),
        outputs=outputs,
        labels=labels,
        classes=(meta.names(outputs) or beside.classes) if labels and outputs else (),
        preprocess=preprocess,
        assumed=[line for line in (*assumed, what, why) if line],
        layout=_layout(args, split=split, gated="blocks.0.mlp.fc1_g.weight" in shapes),
        attention_pool=_own_pool(shapes, args, heads) if attends else None,
    )


def rules(description: Description) -> list[Rule]:
    """Layouts: ``split`` has queries, keys and values apart; ``gated`` SwiGLU's gate and value; ``halves`` and
    ``rows_first`` are the order of channels in :mod:`vitrail.checkpoints.rotary_rows`. What is written has ours."""
    model = pooled.read(description)
    vit, layout = model.vit, model.layout if model.layout is not None else _written(model)
    names = [f"attn.{part}_proj" for part in "qkv"]
    if "split" in layout:
        qkv = [*stacked_layer("attention.qkv", *names)]
        qkv.append(stacked("attention.qv_bias", f"{names[0]}.bias", f"{names[2]}.bias"))
    else:
        qkv = [*layer("attention.qkv", "attn.qkv"), stacked("attention.qv_bias", "attn.q_bias", "attn.v_bias")]
    gated = "gated" in layout
    fc1 = stacked_layer("mlp.fc1", "mlp.fc1_g", "mlp.fc1_x") if gated else layer("mlp.fc1", "mlp.fc1")
    rows_first = "rows_first" in layout
    order = Layout(halves="halves" in layout, rows_first=rows_first and "mixed" not in layout)
    freqs = same("vit.rotary.frequencies", "rope.freqs")
    if rows_first:
        freqs = mapped(freqs.ours, "rope.freqs", lambda value: value.flip(0), lambda value: value.flip(0))
    block = order.rules([*BLOCK, *qkv, *fc1], vit.head_dim) if vit.rotation is not None else [*BLOCK, *qkv, *fc1]
    return [
        same("vit.class_token", "cls_token"),
        *timm.placed(vit),
        *layer("vit.embed.projection", "patch_embed.proj"),
        freqs,
        *layer("vit.pre_norm", "norm_pre"),
        *repeated(vit.depth, "vit.blocks.{i}.", "blocks.{i}.", block),
        *layer("vit.norm", "norm"),
        *under("pool.", "attn_pool.", timm.POOL),
        *layer("head.norm", "fc_norm"),
        *layer("head.output", "head"),
    ]


def lacks(description: Description) -> str | None:
    """What no Eva of timm can be made to be by its arguments."""
    model = pooled.read(description)
    vit, block, head = model.vit, model.vit.block, model.head
    attends = model.pool == "attention"
    branch = block.order == "branch"
    return first(
        (
            ("stem but the patch projection", vit.embed.kind != "patch"),
            ("overlapping patches", vit.patch_embed.stride not in (None, vit.patch_size)),
            ("padding of images", vit.patch_embed.pad),
            ("image that its patches do not cover", vit.patch_embed.drop),
            ("norm of patches", vit.patch_embed.norm),
            ("bias of patches before a norm", vit.pre_norm and vit.patch_embed.bias),
            ("patches without bias", not vit.pre_norm and not vit.patch_embed.bias),
            (f"{vit.positions} positions", vit.positions not in ("learned", "rope_2d")),
            ("model that timm's VisionTransformer computes", _is_plain(model)),
            ("distillation token", vit.distillation_token),
            (f"LayerNorm eps {block.norm_eps:g}", block.norm_eps not in BASES),
            ("post-norm blocks", block.order == "post"),
            ("LayerScale in such blocks", branch and block.layer_scale is not None),
            ("QK-norm in such blocks", branch and block.qk_norm),
            (f"{block.mlp} in its MLPs", block.mlp not in ("gelu", "swiglu")),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            ("attention without output bias", not block.out_bias),
            (f"{model.pool} pooling", model.pool not in timm_config.POOLS.values()),
            ("attention pool over patches alone", attends and bool(_prefix(model)) and not _own(model).prefix),
            ("SwiGLU with attention pooling", attends and block.mlp == "swiglu"),
            ("norm before and after pooling", vit.final_norm and head.norm),
            ("head with hidden layer", head.hidden is not None),
            ("head without bias", bool(model.outputs) and not head.bias),
            ("projection of its features", bool(model.outputs) and not model.labels),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json``; ``timm.create_model("local-dir:…", pretrained=True)`` opens the folder."""
    model = pooled.read(description)
    vit, block, head = model.vit, model.vit.block, model.head
    pool = next(name for name, ours in timm_config.POOLS.items() if ours == model.pool)
    layout, swiglu, attends = _written(model), block.mlp == "swiglu", model.pool == "attention"
    args: dict[str, Any] = {
        "img_size": plain(vit.image_size),
        "patch_size": plain(vit.patch_size),
        "in_chans": vit.channels,
        "num_classes": model.outputs,
        "global_pool": pool,
        "embed_dim": vit.dim,
        "depth": vit.depth,
        "num_heads": vit.heads,
        "qkv_bias": block.qkv_bias,
        "qkv_fused": "split" not in layout,
        "qk_norm": block.qk_norm,
        "mlp_ratio": timm_config.ratio(vit.mlp_dim, vit.dim),
        "swiglu_mlp": swiglu,
        "swiglu_align_to": 0,
        "scale_mlp": block.mlp_norm,
        "scale_attn_inner": block.attention_norm,
        "attn_type": "rope" if _keys(model) else "eva",
        "init_values": block.layer_scale,
        "class_token": vit.class_token,
        "num_reg_tokens": vit.registers,
        "no_embed_class": not vit.class_position,
        "use_abs_pos_emb": vit.positions == "learned",
        **timm_eva.rotary_arguments(vit.rotation),
        "use_post_norm": block.order == "branch",
        "use_pre_transformer_norm": vit.pre_norm,
        "use_post_transformer_norm": vit.final_norm,
        "use_fc_norm": head.norm,
        "dynamic_img_size": False,
        "attn_pool_num_heads": _own(model).heads if attends else None,
        "attn_pool_mlp_ratio": timm_config.ratio(_own(model).mlp_dim or vit.mlp_dim, vit.dim) if attends else None,
    }
    settings = to_timm(model.preprocess) if model.preprocess else {"input_size": [vit.channels, *vit.image_size]}
    weights = {"num_classes": model.outputs, "first_conv": "patch_embed.proj", "classifier": "head"}
    config = {
        "architecture": BASES[block.norm_eps],
        "num_classes": model.outputs,
        "num_features": vit.dim,
        "global_pool": pool,
        **({"label_names": list(model.classes)} if model.labels and model.classes else {}),
        "model_args": args,
        "pretrained_cfg": {**settings, **weights, "fixed_input_size": True, "custom_load": False},
    }
    return {"config.json": config}


def _refuse(shapes: Shapes) -> None:
    """Parts that we do not have."""
    problem = {
        "RMSNorm": "blocks.0.norm1.bias" not in shapes,
        "gated attention": "blocks.0.attn.gate.weight" in shapes,
        "LayerScale on attention alone": "blocks.0.gamma_1" in shapes and "blocks.0.gamma_2" not in shapes,
        "another attention pool": any(n.startswith("attn_pool.") for n in shapes) and "attn_pool.latent" not in shapes,
        "two norms, before and after pooling": "norm.weight" in shapes and "fc_norm.weight" in shapes,
    }
    for what, there in problem.items():
        if there:
            raise UserError(f"it has {what}, which Vitrail does not compute; use a plain ViT")


def _bias(part: str, split: bool) -> str:
    return f"blocks.0.attn.{part}_proj.bias" if split else f"blocks.0.attn.{part}_bias"


def _eps(args: dict[str, Any], meta: timm_config.TimmConfig, pre_norm: bool) -> float:
    """LayerNorm's; ``model_args`` cannot say it."""
    if "eps" in args:
        return float(args["eps"])
    return timm_eva.OTHER_EPS if pre_norm and not meta.architecture else timm_eva.EPS


def _geometry(
    shapes: Shapes, meta: timm_config.TimmConfig, kernel: tuple[int, ...], num_prefix: int, *, turns: bool
) -> dict[str, Any]:
    """Sizes and the kind of positions.

    Raises:
        UserError: nothing determines them.
    """
    if "pos_embed" in shapes:
        return timm.positions(shapes, meta, kernel, num_prefix)
    if not turns:
        raise UserError("it has no positions: neither pos_embed nor rotary ones; put timm's config.json next to it")
    sizes = meta.image_sizes() or [(14 * kernel[2], 14 * kernel[3])]
    (height, width), (_, _, *patch) = sizes[0], kernel
    return {**geometry(kernel, (height // patch[0]) * (width // patch[1]), sizes[0]), "positions": "rope_2d"}


def _pool(shapes: Shapes, meta: timm_config.TimmConfig, usual: str) -> Any:
    """How tokens become one vector.

    Args:
        usual: what the architecture has where neither tensors nor a config say.

    Raises:
        UserError: a pool that we do not have.
    """
    named = meta.pool()
    if named is None:
        named = "map" if "attn_pool.latent" in shapes else "avg" if "fc_norm.weight" in shapes else usual
    if named == "token" and "cls_token" not in shapes:
        named = "avg"
    if named == "" and not shapes.get("head.weight"):
        named = "token" if "cls_token" in shapes else "avg"
    if named not in timm_config.POOLS:
        raise UserError(f"global_pool {named!r} is none of {', '.join(timm_config.POOLS)}; Vitrail cannot compute it")
    return timm_config.POOLS[named]


def _own_pool(shapes: Shapes, args: dict[str, Any], heads: int) -> AttentionPoolConfig:
    """All of timm's Eva pools attend to every token."""
    return AttentionPoolConfig(
        heads=args.get("attn_pool_num_heads") or heads, mlp_dim=shapes["attn_pool.mlp.fc1.weight"][0], prefix=True
    )


def _own(model: PooledModel) -> AttentionPoolConfig:
    return model.attention_pool or AttentionPoolConfig()


def _prefix(model: PooledModel) -> int:
    return model.vit.class_token + model.vit.registers


def _keys(model: PooledModel) -> bool:
    """Do keys have biases? timm's own attention of this class has none."""
    return model.vit.block.qkv_bias and model.vit.block.key_bias


def _is_plain(model: PooledModel) -> bool:
    """Nothing of this class; timm's other class has the same names."""
    block = model.vit.block
    own = model.vit.rotation is not None or block.order == "branch" or block.attention_norm or block.mlp_norm
    return not own and (block.key_bias or not block.qkv_bias)


def _layout(args: dict[str, Any], *, split: bool, gated: bool) -> list[str]:
    kind = args.get("rope_type", "cat")
    found = {
        "split": split,
        "gated": gated,
        "halves": bool(args.get("rope_rotate_half")),
        "rows_first": args.get("rope_grid_indexing", "ij") != "xy",
        "mixed": kind == "mixed",
    }
    return [name for name, there in found.items() if there]


def _written(model: PooledModel) -> set[str]:
    """The layout of what we write: the norm of a SwiGLU is there only where gate and value are apart."""
    return {"gated"} if model.vit.block.mlp == "swiglu" and model.vit.block.mlp_norm else set()
