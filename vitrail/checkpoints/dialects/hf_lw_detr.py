"""Hugging Face LW-DETR: LwDetrForObjectDetection (Chen et al. 2024).

A plain ViT without class token, most of whose blocks attend within parts of the image; keys have no bias. Its position
of a class token is never read, and written as zeros. The statistics of BatchNorm are part of the model and stay.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F

from vitrail.checkpoints import detection_processor, pooled
from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.rules import Rule, layer, mapped, repeated, same, shaped, stacked, under
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, vit_config
from vitrail.config import from_dict, to_dict
from vitrail.errors import UserError
from vitrail.nn.joined_maps import WIDE
from vitrail.nn.windows import SplitConfig
from vitrail.tasks.detection_deformable import Config

LIBRARY = "huggingface"
TASKS = ("detection_deformable",)
FILE = hf.FILE
IGNORED = ("*.num_batches_tracked",)
VIT = "model.backbone.backbone."
FIRST = f"{VIT}encoder.layer.0."
JOIN = "model.backbone.projector.scale_layers."
SCALES = {"1/2": 0.5, "1": 1.0, "2": 2.0}
OF_NO_FILE = {
    "image_size": 1024,
    "hidden_size": 192,
    "num_hidden_layers": 10,
    "window_block_indices": [0, 1, 3, 6, 7, 9],
    "out_indices": [2, 4, 5, 9],
}  # the backbone of a config.json that names none
BLOCK = [
    stacked("attention.qkv.weight", *(f"attention.attention.{part}.weight" for part in ("query", "key", "value"))),
    stacked("attention.qv_bias", *(f"attention.attention.{part}.bias" for part in ("query", "value"))),
    *layer("attention.out", "attention.output"),
    *layer("norm1", "layernorm_before"),
    *layer("norm2", "layernorm_after"),
    *layer("mlp.fc1", "intermediate.fc1"),
    *layer("mlp.fc2", "intermediate.fc2"),
    same("branch1.scale.gamma", "gamma_1"),
    same("branch2.scale.gamma", "gamma_2"),
]
DECODER_LAYER = [
    *(rule for part in "qkv" for rule in layer(f"among.{part}", f"self_attn.{part}_proj")),
    *layer("among.out", "self_attn.o_proj"),
    *layer("norm1", "self_attn_layer_norm"),
    *layer("image.offsets", "cross_attn.sampling_offsets"),
    *layer("image.scores", "cross_attn.attention_weights"),
    *layer("image.value", "cross_attn.value_proj"),
    *layer("image.out", "cross_attn.output_proj"),
    *layer("norm2", "cross_attn_layer_norm"),
    *layer("mlp.fc1", "mlp.fc1"),
    *layer("mlp.fc2", "mlp.fc2"),
    *layer("norm3", "layer_norm"),
]
_IN_MEMORY = {
    ".attention.q_proj.": ".attention.attention.query.", ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.", ".attention.o_proj.": ".attention.output.",
}  # fmt: skip


def canonical(name: str) -> str:
    """As on disk."""
    for own, written in _IN_MEMORY.items():
        name = name.replace(own, written)
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By a ViT's first block, the projector and the queries of groups."""
    wanted = {f"{FIRST}gamma_1", f"{JOIN}0.layer_norm.weight", "model.query_feat.weight", "class_embed.weight"}
    return wanted <= set(names)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """From shapes and ``config.json``.

    Raises:
        UserError: no ``config.json``, which alone says where blocks attend and which layers are joined.
    """
    own = beside.config
    if not own:
        raise UserError("it has no config.json beside it, which alone says what its blocks attend to; fetch that too")
    backbone = hf.Config(own.get("backbone_config") or OF_NO_FILE)
    config = hf.Config(own)
    vit = vit_config(_vit(shapes, backbone))
    outputs = shapes["class_embed.weight"][0]
    classes = hf.classes(own, beside, outputs)
    assumed = [*backbone.assumed, *config.assumed]
    if len(classes) != outputs:
        classes = tuple(f"class {i}" for i in range(outputs))
        assumed.append(f"classes: {outputs} without names; put their list into classes.json beside the file")
    parts = math.isqrt(backbone.get("num_windows", 16))
    layers = sorted(each - 1 for each in backbone.get("out_indices", [vit.depth]))
    if not layers or layers[0] < 0:
        raise UserError("out_indices in config.json are not the blocks that the projector joins; correct them")
    made = from_dict(
        Config,
        {
            "model": to_dict(vit),
            "classes": classes,
            "decoder": _decoder(shapes, config),
            "layers": layers,
            "scales": [_scale(shapes, number) for number in range(depth_of(shapes, JOIN))],
            "join": _join(shapes, config),
            "window": {"parts": parts, "layers": backbone.get("window_block_indices", [])},
        },
        where="config.json",
    )
    found = beside.preprocessor or {"size": _both(backbone.get("image_size", 256))}
    preprocess = detection_processor.read(found, vit.image_size, vit.patch_size)
    if not beside.preprocessor:
        assumed.append("preprocessing: as its image processor's; put preprocessor_config.json beside the file")
    return Description(TASKS[0], made, preprocess, tuple(assumed), frozenset())


def rules(description: Description) -> list[Rule]:
    config = _config(description)
    vit, decoder, scales = config.model, config.decoder, range(len(config.scales))
    joined = _joined(config, writing=description.layout is None)
    mlps = {"box": "bbox_embed."} | {
        f"proposals.{group}.box": f"model.enc_out_bbox_embed.{group}." for group in range(decoder.groups)
    }
    return [
        mapped(
            "vit.positions.embedding",
            f"{VIT}embeddings.position_embeddings",
            read=lambda value: value[..., 1:, :],
            write=lambda value: F.pad(value, (0, 0, 1, 0)),
        ),
        *layer("vit.embed.projection", f"{VIT}embeddings.projection"),
        *repeated(vit.depth, "vit.blocks.{i}.", VIT + "encoder.layer.{i}.", BLOCK),
        *(rule for n in scales for rule in under(f"maps.levels.{n}.", f"{JOIN}{n}.", joined)),
        *repeated(decoder.depth, "decoder.layers.{i}.", "model.decoder.layers.{i}.", DECODER_LAYER),
        *layer("decoder.norm", "model.decoder.layernorm"),
        *layer("decoder.place.0", "model.decoder.ref_point_head.layers.0"),
        *layer("decoder.place.2", "model.decoder.ref_point_head.layers.1"),
        shaped("queries.content", "model.query_feat.weight", -1, decoder.dim),
        shaped("queries.change", "model.reference_point_embed.weight", -1, 4),
        *(
            rule
            for group in range(decoder.groups)
            for ours, theirs in (
                ("project", "enc_output"),
                ("norm", "enc_output_norm"),
                ("score", "enc_out_class_embed"),
            )
            for rule in layer(f"proposals.{group}.{ours}", f"model.{theirs}.{group}")
        ),
        *layer("head", "class_embed"),
        *(
            rule
            for ours, own in mlps.items()
            for i in range(3)
            for rule in layer(f"{ours}.fc{i + 1}", f"{own}layers.{i}")
        ),
    ]


def lacks(description: Description) -> str | None:
    """What a LwDetrForObjectDetection cannot be."""
    config = _config(description)
    vit, block = config.model, config.model.block
    model = pooled.read_encoder(vit, description)
    own = {
        "class token": vit.class_token,
        "model without class token": False,
        "model without a final norm": False,
        "final norm": vit.final_norm,
        "attention without a bias of keys": False,
        "bias of keys": block.qkv_bias and block.key_bias,
        "LayerScale": False,
        "model without LayerScale": block.layer_scale is None,
        "mean pooling": False,
        "heads of this width": block.head_dim is not None,
        "oblong images or patches": hf.oblong(model),
        "MLP of such a width": vit.mlp_dim % vit.dim != 0,
        "norm of this kind between convolutions": config.join.norm != "batch",
        "joining of layers out of order": sorted(_layers(config)) != _layers(config),
    }
    return hf.lacks(model, own)


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    config = _config(description)
    vit, decoder, join = config.model, config.decoder, config.join
    model = replace(pooled.read_encoder(vit, description), classes=config.classes, labels=True)
    window = config.window or SplitConfig(parts=1)
    shared = hf.backbone_json(model)
    size = description.preprocess.size[0] if description.preprocess is not None else vit.image_size[0]
    backbone = {
        **shared,
        "model_type": "lw_detr_vit",
        "mlp_ratio": vit.mlp_dim // vit.dim,
        "image_size": size,
        "pretrain_image_size": shared["image_size"],
        "qkv_bias": vit.block.qkv_bias,
        "num_windows": window.parts**2,
        "window_block_indices": list(window.layers),
        "out_indices": [each + 1 for each in _layers(config)],
        "cae_init_values": vit.block.layer_scale,
    }
    own = {
        "architectures": ["LwDetrForObjectDetection"],
        "model_type": "lw_detr",
        "backbone_config": backbone,
        "projector_scale_factors": [SCALES[scale] for scale in config.scales],
        "hidden_expansion": join.expansion,
        "c2f_num_blocks": join.blocks,
        "activation_function": join.activation,
        "batch_norm_eps": join.norm_eps,
        "d_model": decoder.dim,
        "decoder_ffn_dim": decoder.mlp_dim,
        "decoder_layers": decoder.depth,
        "decoder_n_points": decoder.points,
        "decoder_self_attention_heads": decoder.heads,
        "decoder_cross_attention_heads": decoder.reading_heads,
        "decoder_activation_function": decoder.mlp,
        "num_queries": decoder.num_queries,
        "group_detr": decoder.groups,
        "dropout": decoder.dropout,
        "dtype": "float32",
        **hf.labels_json(model),
    }
    found: dict[str, Any] = {"config.json": own}
    if description.preprocess is not None:
        kind = "DeformableDetrImageProcessor"
        found["preprocessor_config.json"] = detection_processor.write(description.preprocess, kind)
    return found


def _config(description: Description) -> Config:
    assert isinstance(description.config, Config)
    return description.config


def _layers(config: Config) -> list[int]:
    """From 0."""
    return [each % config.model.depth for each in config.layers]


def _vit(shapes: Shapes, config: hf.Config) -> dict[str, Any]:
    kernel, positions = shapes[f"{VIT}embeddings.projection.weight"], f"{VIT}embeddings.position_embeddings"
    if positions not in shapes:
        raise UserError("it has no learned positions, which such an encoder needs here; use transformers")
    return {
        **geometry(kernel, shapes[positions][-2] - 1),
        "depth": depth_of(shapes, f"{VIT}encoder.layer.", config.values.get("num_hidden_layers")),
        "heads": config.heads(kernel[0]),
        "mlp_dim": shapes[f"{FIRST}intermediate.fc1.weight"][0],
        "class_token": False,
        "final_norm": False,
        "resampling": "bicubic",
        "block": {
            "mlp": config.activation(),
            "norm_eps": config.get("layer_norm_eps", 1e-6),
            "qkv_bias": f"{FIRST}attention.attention.query.bias" in shapes,
            "key_bias": False,
            "layer_scale": float(config.values.get("cae_init_values", 0.1)),
        },
    }


def _decoder(shapes: Shapes, config: hf.Config) -> dict[str, Any]:
    groups = depth_of(shapes, "model.enc_output.")
    heads = config.get("decoder_cross_attention_heads", 16)
    return {
        "dim": shapes["class_embed.weight"][1],
        "depth": depth_of(shapes, "model.decoder.layers.", config.values.get("decoder_layers")),
        "heads": config.get("decoder_self_attention_heads", 8),
        "reading_heads": heads,
        "points": config.get("decoder_n_points", 4),
        "mlp_dim": shapes["model.decoder.layers.0.mlp.fc1.weight"][0],
        "mlp": config.get("decoder_activation_function", "relu"),
        "num_queries": shapes["model.query_feat.weight"][0] // max(groups, 1),
        "groups": groups,
        "dropout": float(config.values.get("dropout", 0.0)),
    }


def _join(shapes: Shapes, config: hf.Config) -> dict[str, Any]:
    inner, dim = shapes[f"{JOIN}0.projector_layer.conv1.conv.weight"][0] // 2, shapes["class_embed.weight"][1]
    expansion = config.get("hidden_expansion", 0.5)
    return {
        "expansion": expansion if int(expansion * dim) == inner else inner / dim,
        "blocks": depth_of(shapes, f"{JOIN}0.projector_layer.bottlenecks."),
        "activation": config.get("activation_function", "silu"),
        "norm": "batch",
        "norm_eps": config.get("batch_norm_eps", 1e-5),
    }


def _joined(config: Config, *, writing: bool) -> list[Rule]:
    """One feature map of the layers; a count of batches that theirs has is written, and not read."""

    def conv(ours: str, theirs: str) -> list[Rule]:
        mean = same(f"{ours}.norm.mean", f"{theirs}.norm.running_mean")
        if writing:
            mean = hf.with_spare(mean, f"{theirs}.norm.num_batches_tracked", lambda _: torch.tensor(0))
        variance = same(f"{ours}.norm.variance", f"{theirs}.norm.running_var")
        norm = [*layer(f"{ours}.norm", f"{theirs}.norm"), mean, variance]
        return [same(f"{ours}.conv.weight", f"{theirs}.conv.weight"), *norm]

    join = "projector_layer"
    found = [*conv("first", f"{join}.conv1"), *conv("last", f"{join}.conv2"), *layer("norm", "layer_norm")]
    for i in range(config.join.blocks):
        found += [
            rule for part in (0, 1) for rule in conv(f"blocks.{i}.{part}", f"{join}.bottlenecks.{i}.conv{part + 1}")
        ]
    wide = config.model.dim > WIDE
    for i in range(len(config.layers)):
        found += conv(f"rescale.{i}.conv", f"sampling_layers.{i}.layers.0")
        found += layer(f"rescale.{i}.enlarge", f"sampling_layers.{i}.layers.{int(wide)}")
    return found


def _scale(shapes: Shapes, number: int) -> str:
    """The scale of a feature map, by the layers that make it."""
    first = f"{JOIN}{number}.sampling_layers.0.layers."
    if f"{first}0.weight" in shapes or f"{first}1.weight" in shapes:
        return "2"
    return "1/2" if f"{first}0.conv.weight" in shapes else "1"


def _both(size: int | list[int]) -> dict[str, int]:
    height, width = (size, size) if isinstance(size, int) else size
    return {"height": height, "width": width}
