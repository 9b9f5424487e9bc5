"""Hugging Face EoMT: EomtForUniversalSegmentation (Kerssies et al. 2025).

Its blocks are DINOv2's with registers under other names; only patches have positions. Which classes are things is not
in its files: ``stuff_classes`` in ``config.json``, where we write it, else the order of COCO's 133 classes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import torch

from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.dialects import hf_dinov2 as dinov2
from vitrail.checkpoints.rules import Rule, layer, repeated, same, shaped, stacked_layer
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, vit_config
from vitrail.config import from_dict, to_dict
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import from_huggingface, to_huggingface
from vitrail.errors import UserError
from vitrail.tasks import panoptic

LIBRARY = "huggingface"
TASKS = ("panoptic",)
FILE = hf.FILE
IGNORED = ("criterion.empty_weight",)
COCO_CLASSES, COCO_THINGS = 133, 80
BLOCK = [
    *stacked_layer("attention.qkv", "attention.q_proj", "attention.k_proj", "attention.v_proj"),
    *layer("attention.out", "attention.out_proj"),
    *layer("norm1", "norm1"),
    *layer("norm2", "norm2"),
    same("branch1.scale.gamma", "layer_scale1.lambda1"),
    same("branch2.scale.gamma", "layer_scale2.lambda1"),
]
MLP = [*layer("mlp.fc1", "mlp.fc1"), *layer("mlp.fc2", "mlp.fc2")]
SWIGLU = [*stacked_layer("mlp.fc1", "mlp.gate_proj", "mlp.up_proj"), *layer("mlp.fc2", "mlp.down_proj")]


def canonical(name: str) -> str:
    """Names are the same on disk and in memory."""
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the queries and the masks' layers."""
    return {"query.weight", "mask_head.fc1.weight", "class_predictor.weight", "embeddings.cls_token"} <= set(
        names
    ) and beside.config.get("model_type", "eomt") == "eomt"


def describe(shapes: Shapes, beside: Beside) -> Description:
    """From shapes first, then ``config.json``, then the library's defaults."""
    config = hf.Config(beside.config)
    if (activation := config.get("hidden_act", "gelu")) != "gelu":
        raise UserError(f"hidden_act {activation!r} of EoMT is not computed here, but gelu")
    kernel = shapes["embeddings.patch_embeddings.projection.weight"]
    gate = shapes.get("layers.0.mlp.gate_proj.weight")
    num_patches = shapes["embeddings.position_embeddings.weight"][0]
    vit: dict[str, Any] = {
        **geometry(kernel, num_patches, beside.config.get("image_size")),
        "depth": depth_of(shapes, "layers."),
        "heads": config.heads(kernel[0]),
        "mlp_dim": (gate or shapes["layers.0.mlp.fc1.weight"])[0],
        "registers": shapes["embeddings.register_tokens"][-2],
        "class_position": False,
        "resampling": "bicubic",
        "block": {
            "mlp": "swiglu" if gate else "gelu",
            "norm_eps": config.get("layer_norm_eps", 1e-6),
            "layer_scale": float(beside.config.get("layerscale_value", 1.0)),
        },
    }
    outputs = shapes["class_predictor.weight"][0] - 1
    classes = hf.classes(beside.config, beside, outputs)
    if len(classes) != outputs:
        classes = tuple(f"class {i}" for i in range(outputs))
        config.assumed.append(f"classes: {outputs} without names; put their list into classes.json beside the file")
    settings = {
        "model": to_dict(vit_config(vit)),
        "classes": classes,
        "things": _things(classes, config),
        "num_queries": shapes["query.weight"][0],
        "num_blocks": shapes["attn_mask_probs"][0],
        "num_upscale": depth_of(shapes, "upscale_block.block."),
        "label_weight": beside.config.get("class_weight", 2.0),
        "mask_weight": beside.config.get("mask_weight", 5.0),
        "dice_weight": beside.config.get("dice_weight", 5.0),
        "no_object": beside.config.get("no_object_weight", 0.1),
    }
    made = from_dict(panoptic.Config, settings, where="config.json")
    return Description("panoptic", made, _preprocess(beside), tuple(config.assumed), frozenset())


def rules(description: Description) -> list[Rule]:
    """With the weights of the classes in the loss, which are a tensor there."""
    config = _config(description)
    vit = config.model

    def weights(bias: torch.Tensor) -> torch.Tensor:
        value = torch.ones_like(bias)
        value[-1] = config.no_object
        return value

    head_weight, head_bias = layer("head", "class_predictor")
    return [
        same("vit.class_token", "embeddings.cls_token"),
        same("vit.registers", "embeddings.register_tokens"),
        shaped("vit.positions.embedding", "embeddings.position_embeddings.weight", -1, vit.dim),
        *layer("vit.embed.projection", "embeddings.patch_embeddings.projection"),
        *layer("vit.norm", "layernorm"),
        *repeated(
            vit.depth,
            "vit.blocks.{i}.",
            "layers.{i}.",
            [*BLOCK, *(SWIGLU if vit.block.mlp == "swiglu" else MLP)],
        ),
        same("queries", "query.weight"),
        *repeated(
            config.num_upscale,
            "upscale.{i}.",
            "upscale_block.block.{i}.",
            [*layer("enlarge", "conv1"), same("smooth.weight", "conv2.weight"), *layer("norm", "layernorm2d")],
        ),
        *(rule for i in (1, 2, 3) for rule in layer(f"mask_mlp.fc{i}", f"mask_head.fc{i}")),
        head_weight,
        head_bias if description.layout is not None else hf.with_spare(head_bias, IGNORED[0], weights),
        same("annealing.probabilities", "attn_mask_probs"),
    ]


def lacks(description: Description) -> str | None:
    """What an EomtForUniversalSegmentation cannot be."""
    model = pooled.read_encoder(_config(description).model, description)
    vit = model.vit
    return hf.lacks(
        model,
        {
            "LayerScale": False,
            "blocks without LayerScale": vit.block.layer_scale is None,
            "SwiGLU": False,
            f"{vit.block.mlp} activation": vit.block.mlp not in ("gelu", "swiglu"),
            "MLP of this width": dinov2.mlp_ratio(model) is None,
            "heads of this width": vit.block.head_dim is not None,
            "attention without biases": not vit.block.qkv_bias,
            "oblong images or patches": hf.oblong(model),
            "register tokens": False,
            "model without register tokens": not vit.registers,
            "class token without position": False,
            "class token with a position": vit.class_position,
        },
    )


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    own = _config(description)
    model = pooled.read_encoder(own.model, description)
    block = own.model.block
    found: dict[str, Any] = {
        "config.json": {
            "architectures": ["EomtForUniversalSegmentation"],
            "model_type": "eomt",
            **hf.backbone_json(model),
            "hidden_act": "gelu",
            "hidden_dropout_prob": block.dropout,
            "attention_dropout": block.attention_dropout,
            "mlp_ratio": dinov2.mlp_ratio(model),
            "use_swiglu_ffn": block.mlp == "swiglu",
            "layerscale_value": block.layer_scale,
            "num_register_tokens": own.model.registers,
            "num_queries": own.num_queries,
            "num_blocks": own.num_blocks,
            "num_upscale_blocks": own.num_upscale,
            "class_weight": own.label_weight,
            "mask_weight": own.mask_weight,
            "dice_weight": own.dice_weight,
            "no_object_weight": own.no_object,
            "dtype": "float32",
            "id2label": dict(enumerate(own.classes)),
            "label2id": {name: i for i, name in enumerate(own.classes)},
            "stuff_classes": [i for i, thing in enumerate(own.is_thing) if not thing],
        }
    }
    if description.preprocess is not None:
        found["preprocessor_config.json"] = _preprocessor(description.preprocess)
    return found


def _config(description: Description) -> panoptic.Config:
    assert isinstance(description.config, panoptic.Config)
    return description.config


def _things(classes: tuple[str, ...], config: hf.Config) -> list[str]:
    stuff = config.values.get("stuff_classes")
    if stuff is None:
        count = COCO_THINGS if len(classes) == COCO_CLASSES else len(classes)
        config.assumed.append(
            f"things: the first {count} of {len(classes)} classes; list the others in stuff_classes of config.json"
        )
        return list(classes[:count])
    if not isinstance(stuff, list) or not all(isinstance(i, int) and 0 <= i < len(classes) for i in stuff):
        raise UserError(f"stuff_classes in config.json is no list of numbers from 0 to {len(classes) - 1}; correct it")
    return [name for i, name in enumerate(classes) if i not in stuff]


def _preprocess(beside: Beside) -> PreprocessConfig | None:
    """The processor's; one that fits an image into a square and pads it is ours with the image in the middle."""
    size = beside.preprocessor.get("size")
    if not isinstance(size, dict) or not {"shortest_edge", "longest_edge"} <= size.keys():
        return hf.preprocess(beside)
    square = {"height": size["longest_edge"], "width": size["longest_edge"]}
    return replace(from_huggingface({**beside.preprocessor, "size": square}), resize="pad")


def _preprocessor(preprocess: PreprocessConfig) -> dict[str, Any]:
    if preprocess.resize != "pad":
        return to_huggingface(preprocess)
    edge = max(preprocess.size)
    own = {"image_processor_type": "EomtImageProcessor", "do_pad": True, "do_split_image": False}
    return {
        **to_huggingface(replace(preprocess, resize="square", crop_pct=1.0)),
        **own,
        "do_center_crop": False,
        "size": {"shortest_edge": edge, "longest_edge": edge},
    }
