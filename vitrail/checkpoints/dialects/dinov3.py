"""Meta's own DINOv3 (https://github.com/facebookresearch/dinov3).

DINOv2's names but for ``storage_tokens``, SwiGLU's ``w1``, ``w2`` and ``w3``, the periods of the rotation, and a mask
that sets the bias of keys to zero. A folder that we write is opened by
``DinoVisionTransformer(**json.load(open("config.json")))`` and ``load_state_dict``.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from vitrail.checkpoints import dinov3_facts as facts
from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import parts, pooled, tensors_only
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import timm
from vitrail.checkpoints.rotary_rows import Layout
from vitrail.checkpoints.rules import Rule, layer, repeated, same, stacked_layer
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, vit_config
from vitrail.checkpoints.timm_config import ratio
from vitrail.data.transforms.preprocess import PreprocessConfig

LIBRARY = "meta"
TASKS = pooled.TASKS
FILE = "model.safetensors"
PARTS = (parts.ROTARY,)
IGNORED = ("mask_token", "rope_embed.periods", "local_cls_norm.*")
NORMS = {1e-6: "layernorm", 1e-5: "layernormbf16"}
LAYOUT = Layout(halves=True, rows_first=True)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
QKV = "blocks.0.attn.qkv"


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the periods of the rotation, or the registers' name."""
    return {f"{QKV}.weight", "patch_embed.proj.weight"} <= set(names) and timm.is_dinov3(names)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """From the shapes; the heads from ``config.json``, else from the width."""
    config, assumed = beside.config, []
    kernel = shapes["patch_embed.proj.weight"]
    swiglu = "blocks.0.mlp.w3.weight" in shapes
    size, heads = config.get("img_size", 224), config.get("num_heads")
    if heads is None:
        heads = facts.heads(kernel[0])
        assumed.append(
            f"heads: {heads}, usual for width {kernel[0]}; image size: {size}; rotation by periods up to "
            f"{facts.THETA:g}; else put num_heads, img_size and pos_embed_rope_base into config.json"
        )
    height, width = (size, size) if isinstance(size, int) else size
    norms = {name: eps for eps, name in NORMS.items()}
    vit = {
        **geometry(kernel, (height // kernel[2]) * (width // kernel[3]), (height, width)),
        **facts.positions(config.get("pos_embed_rope_base", facts.THETA)),
        "depth": depth_of(shapes, "blocks."),
        "heads": heads,
        "mlp_dim": shapes[f"blocks.0.mlp.{'w3' if swiglu else 'fc2'}.weight"][1],
        "registers": shapes.get("storage_tokens", (1, 0))[1],
        "block": {
            "mlp": "swiglu" if swiglu else "gelu",
            "norm_eps": norms.get(config.get("norm_layer", ""), facts.EPS),
            "qkv_bias": f"{QKV}.bias" in shapes,
            "key_bias": f"{QKV}.bias" not in shapes or f"{QKV}.bias_mask" not in shapes,
            "out_bias": "blocks.0.attn.proj.bias" in shapes,
            "layer_scale": config.get("layerscale_init", 1e-5) if "blocks.0.ls1.gamma" in shapes else None,
        },
    }
    model = vit_config(vit)
    preprocess = tensors_only.preprocess(beside)
    if preprocess is None:
        values: dict[str, Any] = {"mean": _MEAN, "std": _STD} if model.channels == 3 else {}
        preprocess = PreprocessConfig(size=model.image_size, channels=model.channels, **values)
        assumed.append(
            "preprocessing: resized to the square, bilinear, ImageNet's mean; put preprocessor_config.json next to it"
        )
    return pooled.describe(model, pool="cls", preprocess=preprocess, assumed=assumed)


def rules(description: Description) -> list[Rule]:
    """A model that is written gets a mask token of zeros and the periods."""
    model = pooled.read(description)
    vit = model.vit
    block = [rule for rule in timm.BLOCK if not rule.ours.startswith("mlp.")] + [_masked_bias()]
    if vit.block.mlp == "swiglu":
        block += [*stacked_layer("mlp.fc1", "mlp.w1", "mlp.w2"), *layer("mlp.fc2", "mlp.w3")]
    else:
        block += [*layer("mlp.fc1", "mlp.fc1"), *layer("mlp.fc2", "mlp.fc2")]
    token = same("vit.class_token", "cls_token")
    if model.layout is None:
        assert vit.rotary is not None
        periods = vit.rotary.theta ** (torch.arange(0, vit.head_dim, 4) / vit.head_dim)
        token = hf.with_spare(token, "mask_token", lambda value: value.new_zeros(1, value.shape[-1]))
        token = hf.with_spare(token, "rope_embed.periods", lambda value: periods.to(value))
    return [
        token,
        same("vit.registers", "storage_tokens"),
        *layer("vit.embed.projection", "patch_embed.proj"),
        *repeated(vit.depth, "vit.blocks.{i}.", "blocks.{i}.", LAYOUT.rules(block, vit.head_dim)),
        *layer("vit.norm", "norm"),
    ]


def lacks(description: Description) -> str | None:
    """What a DinoVisionTransformer without a head cannot be."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    swiglu = block.mlp == "swiglu"
    return tensors_only.first(
        (
            (f"{vit.positions} positions", vit.positions != "rope_2d"),
            ("rotation of this kind", not facts.is_its(vit)),
            ("head", bool(model.outputs) or model.head.norm or model.head.hidden is not None),
            (f"{model.pool} pooling", model.pool != "cls"),
            *tensors_only.beyond_plain_patches(vit),
            ("image that is no square", vit.image_size[0] != vit.image_size[1]),
            ("patches that are no squares", vit.patch_size[0] != vit.patch_size[1]),
            ("model without class token", not vit.class_token),
            ("distillation token", vit.distillation_token),
            ("norm before the blocks", vit.pre_norm),
            ("model without a final norm", not vit.final_norm),
            ("post-norm blocks", block.order != "pre"),
            (f"MLP of {block.mlp}", block.mlp not in ("gelu", "swiglu")),
            ("SwiGLU whose width is no multiple of 8", swiglu and vit.mlp_dim % 8 != 0),
            (f"LayerNorm eps {block.norm_eps:g}", block.norm_eps not in NORMS),
            ("heads of a width other than dim / heads", vit.head_dim * vit.heads != vit.dim),
            ("QK-norm", block.qk_norm),
        )
    )


def sidecars(description: Description) -> dict[str, Any]:
    """The constructor's arguments, and the preprocessing."""
    model = pooled.read(description)
    vit, block = model.vit, model.vit.block
    swiglu = block.mlp == "swiglu"
    assert vit.rotary is not None
    config = {
        "img_size": vit.image_size[0],
        "patch_size": vit.patch_size[0],
        "in_chans": vit.channels,
        "pos_embed_rope_base": vit.rotary.theta,
        "pos_embed_rope_dtype": "fp32",
        "embed_dim": vit.dim,
        "depth": vit.depth,
        "num_heads": vit.heads,
        "ffn_ratio": ratio(vit.mlp_dim * 3 // 2 if swiglu else vit.mlp_dim, vit.dim),  # SwiGLU takes two thirds of it
        "ffn_layer": "swiglu" if swiglu else "mlp",
        "qkv_bias": block.qkv_bias,
        "mask_k_bias": not block.key_bias,
        "proj_bias": block.out_bias,
        "layerscale_init": block.layer_scale,
        "norm_layer": NORMS[block.norm_eps],
        "n_storage_tokens": vit.registers,
    }
    return tensors_only.sidecars(model, config)


def _masked_bias() -> Rule:
    """Their bias of queries, keys and values, and the mask that it is multiplied by."""

    def write(value: Tensor) -> tuple[Tensor, Tensor]:
        q_bias, v_bias = value.chunk(2)
        none, one = torch.zeros_like(q_bias), torch.ones_like(q_bias)
        return torch.cat((q_bias, none, v_bias)), torch.cat((one, none, one))

    def read(value: Tensor) -> Tensor:
        q_bias, _, v_bias = value.chunk(3)
        return torch.cat((q_bias, v_bias))

    names = ("attn.qkv.bias", "attn.qkv.bias_mask")
    return Rule("attention.qv_bias", names, lambda found: read(found[0]), write)
