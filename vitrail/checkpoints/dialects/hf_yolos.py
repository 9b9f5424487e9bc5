"""Hugging Face YOLOS: YolosForObjectDetection (Fang et al. 2021).

Its positions are of the class token, the patches and the detection tokens, in this order. Ours of the detection tokens
are part of the queries, to which theirs would only be added; they are written as zeros.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from vitrail.checkpoints import detection_processor, pooled
from vitrail.checkpoints import huggingface as hf
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.rules import Rule, layer, mapped, repeated, same, shaped
from vitrail.checkpoints.shapes import Shapes, vit_config
from vitrail.config import from_dict, to_dict
from vitrail.tasks import detection_tokens

LIBRARY = "huggingface"
TASKS = ("detection_tokens",)
FILE = hf.FILE
IGNORED: tuple[str, ...] = ()
TOKENS = "vit.embeddings.detection_tokens"
POSITIONS = "vit.embeddings.position_embeddings"
MID = "vit.encoder.mid_position_embeddings"
HEADS = {"head": "class_labels_classifier", "box": "bbox_predictor"}


def canonical(name: str) -> str:
    """As on disk; in memory of transformers 5 the vectors between blocks belong to their interpolation."""
    return name.replace("encoder.interpolation.mid_", "encoder.mid_")


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the detection tokens and the heads."""
    return {TOKENS, POSITIONS, "class_labels_classifier.layers.2.weight"} <= set(names) and beside.config.get(
        "model_type", "yolos"
    ) == "yolos"


def describe(shapes: Shapes, beside: Beside) -> Description:
    """From shapes first, then ``config.json``, then the library's defaults."""
    config = hf.Config(beside.config)
    num_queries = shapes[TOKENS][-2]
    settings = hf.settings(shapes, config, prefix="vit.", eps=1e-12, num_prefix=1 + num_queries)
    vit = vit_config(
        settings | {"image_size": detection_processor.covered(settings["image_size"], settings["patch_size"])}
    )
    outputs = shapes["class_labels_classifier.layers.2.weight"][0] - 1
    classes = hf.classes(beside.config, beside, outputs)
    if len(classes) != outputs:
        classes = tuple(f"class {i}" for i in range(outputs))
        config.assumed.append(f"classes: {outputs} without names; put their list into classes.json beside the file")
    own = {
        "model": to_dict(vit),
        "classes": classes,
        "num_queries": num_queries,
        "mid_positions": MID in shapes,
        "no_object": beside.config.get("eos_coefficient", 0.1),
    }
    made = from_dict(detection_tokens.Config, own, where="config.json")
    preprocess = (
        detection_processor.read(beside.preprocessor, vit.image_size, vit.patch_size) if beside.preprocessor else None
    )
    return Description(TASKS[0], made, preprocess, tuple(config.assumed), frozenset())


def rules(description: Description) -> list[Rule]:
    """The detection tokens are read with their positions, and written without."""
    config = _config(description)
    vit, num_queries = config.model, config.num_queries

    def tokens(parts: Sequence[Tensor]) -> Tensor:
        return parts[0] + parts[1][..., -num_queries:, :]

    queries = shaped("queries", TOKENS, 1, num_queries, vit.dim)
    return [
        same("vit.class_token", "vit.embeddings.cls_token"),
        mapped(
            "vit.positions.embedding",
            POSITIONS,
            read=lambda value: value[..., :-num_queries, :],
            write=lambda value: F.pad(value, (0, 0, 0, num_queries)),
        ),
        queries
        if description.layout is None
        else replace(queries, theirs=(TOKENS, POSITIONS), read=tokens, direct=False),
        mapped(
            "mid.embedding",
            MID,
            read=lambda value: value.roll(num_queries, dims=-2),
            write=lambda value: value.roll(-num_queries, dims=-2)[:, None],
        ),
        *layer("vit.embed.projection", "vit.embeddings.patch_embeddings.projection"),
        *layer("vit.norm", "vit.layernorm"),
        *repeated(vit.depth, "vit.blocks.{i}.", "vit.encoder.layer.{i}.", hf.BLOCK),
        *(
            rule
            for ours, theirs in HEADS.items()
            for i in range(3)
            for rule in layer(f"{ours}.fc{i + 1}", f"{theirs}.layers.{i}")
        ),
    ]


def lacks(description: Description) -> str | None:
    """What a YolosForObjectDetection cannot be."""
    config = _config(description)
    vit = config.model
    return hf.lacks(
        pooled.read_encoder(vit, description),
        {
            "heads of this width": vit.block.head_dim is not None,
            "oblong patches": vit.patch_size[0] != vit.patch_size[1],
            "images that patches do not cover": vit.patch_embed.drop,
        },
    )


def sidecars(description: Description) -> dict[str, Any]:
    """``config.json`` and ``preprocessor_config.json``."""
    config = _config(description)
    model: PooledModel = replace(pooled.read_encoder(config.model, description), classes=config.classes, labels=True)
    own: dict[str, Any] = {
        "image_size": list(config.model.image_size),
        "intermediate_size": config.model.mlp_dim,
        "num_detection_tokens": config.num_queries,
        "use_mid_position_embeddings": config.mid_positions,
        "eos_coefficient": config.no_object,
    }
    found: dict[str, Any] = {"config.json": hf.config_json(model, "yolos", "YolosForObjectDetection", **own)}
    if description.preprocess is not None:
        found["preprocessor_config.json"] = detection_processor.write(description.preprocess, "YolosImageProcessor")
    return found


def _config(description: Description) -> detection_tokens.Config:
    assert isinstance(description.config, detection_tokens.Config)
    return description.config
