"""The vision tower of OpenAI's CLIP (https://github.com/openai/CLIP) and of open_clip, which kept its names
(https://github.com/mlfoundations/open_clip); the text tower is left out.

Two models of the same shapes differ in what only ``open_clip_config.json`` says: activation, pooling, eps. We write it,
as open_clip's own folders have it. open_clip's towers from timm (``visual.trunk``) are those of
:mod:`vitrail.checkpoints.dialects.open_clip_timm`.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, repeated, same, shaped, transposed
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, vit_config
from vitrail.config import from_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.errors import UserError
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import PoolKind
from vitrail.vit import ViTConfig

LIBRARY = "openai"
TASKS = pooled.TASKS
FILE = "open_clip_model.safetensors"
IGNORED = (
    "transformer.*", "token_embedding.*", "positional_embedding", "ln_final.*", "text_projection", "text.*",
    "logit_scale", "logit_bias", "attn_mask", "input_resolution", "context_length", "vocab_size",
)  # fmt: skip
EPS, HEAD_DIM = 1e-5, 64
MEAN, STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
BLOCK = [
    *layer("norm1", "ln_1"),
    same("attention.qkv.weight", "attn.in_proj_weight"),
    same("attention.qkv.bias", "attn.in_proj_bias"),
    *layer("attention.out", "attn.out_proj"),
    same("branch1.scale.gamma", "ls_1.gamma"),
    *layer("norm2", "ln_2"),
    *layer("mlp.fc1", "mlp.c_fc"),
    *layer("mlp.fc2", "mlp.c_proj"),
    same("branch2.scale.gamma", "ls_2.gamma"),
]
_FIRST = "visual.transformer.resblocks.0."
_POOLS: dict[str, PoolKind] = {"tok": "cls", "avg": "mean"}
_RESIZES = {"shortest": "crop", "squash": "square"}
_UNKNOWN = ("attentional_pool", "block_type", "qk_norm", "scaled_cosine_attn", "scale_heads", "scale_attn", "scale_fc")


def canonical(name: str) -> str:
    """Without the prefix of distributed training."""
    return name.removeprefix("module.")


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the class token and the names of the first block."""
    return "visual.class_embedding" in names and f"{_FIRST}attn.in_proj_weight" in names


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Without a config: OpenAI's, with QuickGELU.

    Raises:
        UserError: a tower with parts that Vitrail does not compute.
    """
    tower, assumed = _tower(shapes, beside.config), []
    kernel = shapes["visual.conv1.weight"]
    if not tower:
        assumed.append("activation: OpenAI's QuickGELU; for another put open_clip_config.json next to the file")
    after_pool = bool(tower.get("final_ln_after_pool"))
    gamma = f"{_FIRST}ls_1.gamma" in shapes
    vit = {
        **geometry(kernel, shapes["visual.positional_embedding"][0] - 1, tower.get("image_size")),
        "depth": depth_of(shapes, "visual.transformer.resblocks."),
        "heads": kernel[0] // tower.get("head_width", HEAD_DIM),
        "mlp_dim": shapes[f"{_FIRST}mlp.c_fc.weight"][0],
        "embed": {"kind": "patch", "bias": False},
        "block": {
            "mlp": _activation(beside.config, tower),
            "norm_eps": (tower.get("norm_kwargs") or {}).get("eps", EPS),
            "layer_scale": (tower.get("ls_init_value") or 1e-5) if gamma else None,
        },
        "pre_norm": "visual.ln_pre.weight" in shapes,
        "final_norm": not after_pool,
    }
    config = vit_config(vit, where="open_clip_config.json")
    chosen = tensors_only.preprocess(beside)
    if chosen is None:
        chosen, more = preprocess(beside.config.get("preprocess_cfg"), config)
        assumed += more
    pool = _POOLS[tower.get("pool_type", "tok")]
    outputs = shapes.get("visual.proj", (0, 0))[1]
    return pooled.describe(
        config,
        pool=pool,
        head=HeadConfig(norm=after_pool, bias=False),
        outputs=outputs,
        labels=False,
        preprocess=chosen,
        assumed=assumed,
    )


def rules(description: Description) -> list[Rule]:
    model = pooled.read(description)
    vit = model.vit
    return [
        shaped("vit.class_token", "visual.class_embedding", vit.dim),
        shaped("vit.positions.embedding", "visual.positional_embedding", -1, vit.dim),
        same("vit.embed.projection.weight", "visual.conv1.weight"),
        *layer("vit.pre_norm", "visual.ln_pre"),
        *repeated(vit.depth, "vit.blocks.{i}.", "visual.transformer.resblocks.{i}.", BLOCK),
        *layer("vit.norm", "visual.ln_post"),
        *layer("head.norm", "visual.ln_post"),
        transposed("head.output.weight", "visual.proj"),
    ]


def lacks(description: Description) -> str | None:
    """What neither CLIP's nor open_clip's vision tower can be."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    return tensors_only.lacks(model) or tensors_only.first(
        (
            ("head of classes", model.labels and bool(model.outputs)),
            ("tower without projection", not model.outputs),
            ("projection with bias", model.head.bias),
            ("projection with a hidden layer", model.head.hidden is not None),
            (f"{vit.embed.kind} stem", vit.embed.kind != "patch"),
            ("bias in the patch projection", vit.patch_embed.bias),
            ("norm of patches", vit.patch_embed.norm),
            (f"{vit.positions} positions", vit.positions != "learned"),
            ("model without class token", not vit.class_token),
            (f"images of {vit.channels} channels", vit.channels != 3),
            ("rectangular images", vit.image_size[0] != vit.image_size[1]),
            ("rectangular patches", vit.patch_size[0] != vit.patch_size[1]),
            ("model with two final norms or none", vit.final_norm == model.head.norm),
            ("attention without bias", not (block.qkv_bias and block.out_bias)),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            (f"{model.pool} pooling", model.pool not in ("cls", "mean")),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """``open_clip_config.json``, and ours for preprocessing."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    ratio = vit.mlp_dim / vit.dim
    while int(vit.dim * ratio) < vit.mlp_dim:
        ratio = math.nextafter(ratio, math.inf)
    tower = {
        "image_size": vit.image_size[0],
        "patch_size": vit.patch_size[0],
        "width": vit.dim,
        "layers": vit.depth,
        "head_width": vit.head_dim,
        "mlp_ratio": ratio,
        "ls_init_value": block.layer_scale,
        "no_ln_pre": not vit.pre_norm,
        "pool_type": "avg" if model.pool == "mean" else "tok",
        "final_ln_after_pool": model.head.norm,
        "act_kwargs": {"approximate": "tanh"} if block.mlp == "gelu_tanh" else None,
        "norm_kwargs": {"eps": block.norm_eps} if block.norm_eps != EPS else None,
    }
    config: dict[str, Any] = {
        "model_cfg": {"embed_dim": model.outputs, "quick_gelu": block.mlp == "quick_gelu", "vision_cfg": tower}
    }
    made, names = model.preprocess, {ours: theirs for theirs, ours in _RESIZES.items()}
    if made is not None and made.crop_pct == 1 and made.resize in names:
        config["preprocess_cfg"] = {
            "size": list(made.size),
            "mode": "RGB",
            "mean": list(made.mean) * (3 // len(made.mean)),
            "std": list(made.std) * (3 // len(made.std)),
            "interpolation": made.interpolation,
            "resize_mode": names[made.resize],
        }
    return {"open_clip_config.json": config, **tensors_only.sidecars(model)}


def _tower(shapes: Shapes, config: dict[str, Any]) -> dict[str, Any]:
    """``vision_cfg``, empty where there is none.

    Raises:
        UserError: a setting that Vitrail does not have.
    """
    tower: dict[str, Any] = config.get("model_cfg", {}).get("vision_cfg", {})
    found = [name for name in _UNKNOWN if tower.get(name)]
    found += ["attentional_pool"] if any(name.startswith("visual.attn_pool.") for name in shapes) else []
    if tower.get("pool_type", "tok") not in _POOLS:
        found.append(f"pool_type={tower['pool_type']}")
    if found:
        raise UserError(f"its vision tower has {found[0]}, which Vitrail does not compute; use another CLIP")
    return tower


def _activation(config: dict[str, Any], tower: dict[str, Any]) -> str:
    if not tower or config["model_cfg"].get("quick_gelu"):
        return "quick_gelu"
    options = tower.get("act_kwargs") or {}
    if options not in ({}, {"approximate": "none"}, {"approximate": "tanh"}):
        raise UserError(f"act_kwargs {options} are none of GELU's supported options; correct open_clip_config.json")
    return "gelu_tanh" if options.get("approximate") == "tanh" else "gelu"


def preprocess(config: dict[str, Any] | None, vit: ViTConfig) -> tuple[PreprocessConfig | None, list[str]]:
    """``preprocess_cfg``, else CLIP's; and what was assumed."""
    if vit.channels != 3:
        return None, []
    given = config or {}
    mode, assumed = given.get("resize_mode", "shortest"), []
    if config is None:
        assumed.append("preprocessing: CLIP's; for another put preprocessor_config.json next to the file")
    if mode not in _RESIZES:
        assumed.append(
            f"preprocessing: crops the longer side, since a black border (resize_mode={mode}) is not known here"
        )
    settings = {
        "size": vit.image_size,
        "resize": _RESIZES.get(mode, "crop"),
        "interpolation": given.get("interpolation", "bicubic"),
        "mean": given.get("mean", MEAN),
        "std": given.get("std", STD),
    }
    return from_dict(PreprocessConfig, settings, where="open_clip_config.json"), assumed
