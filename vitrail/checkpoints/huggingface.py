"""What Hugging Face's ViT-like models have in common: ``config.json``, labels, preprocessing, block names."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from functools import lru_cache
from typing import Any, TypeVar, cast

from torch import Tensor

from vitrail.checkpoints import pooled
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.rules import Rule, layer, same, stacked_layer
from vitrail.checkpoints.shapes import Shapes, depth_of, geometry, usual_heads, vit_config
from vitrail.data.indexing.names import told_apart
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import from_huggingface, to_huggingface
from vitrail.errors import UserError
from vitrail.files import Json
from vitrail.nn.head import HeadConfig
from vitrail.nn.pooling import PoolKind

T = TypeVar("T")

FILE = "model.safetensors"
TASKS = (*pooled.TASKS, "multilabel", "regression")  # by the config's problem_type
_ACTIVATIONS = {
    "gelu": "gelu", "gelu_python": "gelu", "gelu_new": "gelu_tanh", "gelu_fast": "gelu_tanh",
    "gelu_accurate": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "quick_gelu": "quick_gelu",
}  # fmt: skip
_NAMES = {"gelu": "gelu", "gelu_tanh": "gelu_pytorch_tanh", "quick_gelu": "quick_gelu"}
_FROM_5 = {
    ".attention.q_proj.": ".attention.attention.query.", ".attention.k_proj.": ".attention.attention.key.",
    ".attention.v_proj.": ".attention.attention.value.", ".attention.o_proj.": ".attention.output.dense.",
}  # fmt: skip
OWN = "vitrail"  # the key in config.json of what the library has no name for
NUM_HEADS = 12  # the default of every family's config
QKV = stacked_layer("attention.qkv", *(f"attention.attention.{part}" for part in ("query", "key", "value")))
ATTENTION_OUT = layer("attention.out", "attention.output.dense")
BLOCK = [
    *QKV,
    *ATTENTION_OUT,
    *layer("norm1", "layernorm_before"),
    *layer("norm2", "layernorm_after"),
    *layer("mlp.fc1", "intermediate.dense"),
    *layer("mlp.fc2", "output.dense"),
]


class Config:
    """``config.json``, or a part of it, that records which of the library's defaults were needed.

    Attributes:
        assumed: one sentence for each of them.
    """

    def __init__(self, values: dict[str, Any]) -> None:
        self.values = values
        self.assumed: list[str] = []

    def get(self, name: str, default: T) -> T:
        """The value in the file, or the library's default."""
        if name in self.values:
            return cast("T", self.values[name])
        self.assumed.append(f"{name}: {default}, the library's default; set it in config.json if it differs")
        return default

    def heads(self, dim: int) -> int:
        """Attention heads: the config's, the library's 12, or those of the published model of this width.

        Raises:
            UserError: no number of heads.
        """
        usual = NUM_HEADS if self.values and dim % NUM_HEADS == 0 else usual_heads(dim)
        heads = self.get("num_attention_heads", usual)
        if not isinstance(heads, int) or heads < 1:
            raise UserError(f"num_attention_heads {heads!r} in config.json is no number of heads; correct it")
        return heads

    def activation(self, default: str = "gelu") -> str:
        """Ours of ``hidden_act``.

        Raises:
            UserError: one that we do not have.
        """
        name = self.get("hidden_act", default)
        if name not in _ACTIVATIONS:
            known = ", ".join(_ACTIVATIONS)
            raise UserError(f"hidden_act {name!r} is none of {known}; this model cannot be computed here")
        return _ACTIVATIONS[name]


def prefixed(name: str, prefix: str, heads: tuple[str, ...]) -> str:
    """The name with the prefix of the backbone, which a bare backbone's file leaves out.

    Args:
        heads: how names outside the backbone begin.
    """
    return name if name.startswith((prefix, *heads)) else prefix + name


@lru_cache(maxsize=4096)  # each dialect maps each name
def from_5(name: str) -> str:
    """A name as transformers 5 has it in memory → as it is on disk."""
    name = re.sub(r"^(\w+)\.layers\.", r"\1.encoder.layer.", name)
    for new, old in _FROM_5.items():
        name = name.replace(new, old)
    return name


def mlp_from_5(name: str) -> str:
    """The same for the MLPs that are not called so on disk."""
    return name.replace(".mlp.fc1.", ".intermediate.dense.").replace(".mlp.fc2.", ".output.dense.")


def settings(
    shapes: Shapes,
    config: Config,
    *,
    prefix: str,
    eps: float,
    num_prefix: int | None,
    swiglu: bool = False,
    heads: int | None = None,
    mlp_dim: int | None = None,
) -> dict[str, Any]:
    """What :class:`ViTConfig` takes, from shapes first, then the config, then the library's defaults.

    Args:
        prefix: of the backbone's names.
        eps: the library's default of ``layer_norm_eps``.
        num_prefix: tokens that have a position beside the patches; None: there are no positions of tokens.
        swiglu: the MLP is one, regardless of ``hidden_act``.
        heads, mlp_dim: where they are not those of the config and of ``intermediate.dense``.

    Raises:
        UserError: an activation that we do not have, or sizes that contradict each other.
    """
    kernel = shapes[f"{prefix}embeddings.patch_embeddings.projection.weight"]
    query = f"{prefix}encoder.layer.0.attention.attention.query"
    width, heads = shapes[f"{query}.weight"][0], heads or config.heads(kernel[0])
    block = {
        "mlp": "swiglu" if swiglu else config.activation(),
        "norm_eps": config.get("layer_norm_eps", eps),
        "qkv_bias": f"{query}.bias" in shapes,
        "head_dim": width // heads if width != kernel[0] else None,
    }
    depth = depth_of(shapes, f"{prefix}encoder.layer.", config.values.get("num_hidden_layers"))
    found = {"depth": depth, "heads": heads, "block": block}
    found["mlp_dim"] = mlp_dim or shapes[f"{prefix}encoder.layer.0.intermediate.dense.weight"][0]
    if num_prefix is not None:
        positions = shapes[f"{prefix}embeddings.position_embeddings"]
        found |= geometry(kernel, positions[-2] - num_prefix, config.values.get("image_size"))
    return {**found, "resampling": "bicubic"}


def classes(config: dict[str, Any], beside: Beside, count: int) -> tuple[str, ...]:
    """Names from ``id2label``, then ``classes.json``; equal names are distinguished by their number.

    Raises:
        UserError: labels that are not numbered from 0 to ``count`` − 1.
    """
    labels = config.get("id2label")
    if not labels or not count:
        return beside.classes if count else ()
    try:
        names = [str(labels[str(i)]) for i in range(count)]
    except (KeyError, TypeError):
        raise UserError(f"id2label in config.json does not number the {count} outputs from 0; correct it") from None
    return told_apart(names, range(count))


def describe(
    settings: dict[str, Any],
    config: Config,
    beside: Beside,
    *,
    pool: PoolKind,
    outputs: int = 0,
    labels: bool = True,
    head: HeadConfig | None = None,
    layout: Iterable[str] = (),
) -> Description:
    """A classifier or feature extractor with the labels and preprocessing of the folder.

    Args:
        settings: of the encoder, for :class:`ViTConfig`.
        pool, outputs, labels, head, layout: as of :func:`vitrail.checkpoints.pooled.describe`.
    """
    problem, about_problem = _problem(beside.config, outputs if labels else 0)
    return pooled.describe(
        vit_config(settings),
        pool=pool,
        problem=problem,
        threshold=(beside.config.get(OWN) or {}).get("threshold"),
        head=head,
        outputs=outputs,
        labels=labels,
        classes=classes(beside.config, beside, outputs) if labels else (),
        preprocess=preprocess(beside),
        assumed=[*config.assumed, *about_problem],
        layout=layout,
    )


def _problem(config: dict[str, Any], outputs: int) -> tuple[str, list[str]]:
    """``problem_type``, and what of it was assumed.

    Raises:
        UserError: one that the library does not have.
    """
    single, numbers = "single_label_classification", "regression"
    named = config.get("problem_type")
    if named is None:  # one output has no other class to be compared with: the library learns a number
        about = "problem_type: regression, as transformers has it for one output; set it in config.json if it differs"
        return (numbers, [about]) if outputs == 1 else (single, [])
    if named not in pooled.PROBLEMS:
        raise UserError(f"problem_type {named!r} in config.json is none of {', '.join(pooled.PROBLEMS)}; correct it")
    return str(named), []


def preprocess(beside: Beside) -> PreprocessConfig | None:
    """From ``preprocessor_config.json``, where there is one."""
    return from_huggingface(beside.preprocessor) if beside.preprocessor else None


def backbone_json(model: PooledModel) -> dict[str, Any]:
    """The part of ``config.json`` that describes the architecture, in the keys that all families share."""
    vit, block = model.vit, model.vit.block
    return {
        "hidden_size": vit.dim,
        "num_hidden_layers": vit.depth,
        "num_attention_heads": vit.heads,
        "image_size": _one_or_two(vit.image_size),
        "patch_size": _one_or_two(vit.patch_size),
        "num_channels": vit.channels,
        "hidden_act": _NAMES.get(block.mlp, "silu"),
        "layer_norm_eps": block.norm_eps,
    }


def labels_json(model: PooledModel) -> dict[str, Json]:
    """``id2label`` and ``label2id``, where the outputs are classes."""
    names = model.classes if model.labels else ()
    if not names:
        return {}
    found: dict[str, Json] = {
        "id2label": {str(i): n for i, n in enumerate(names)},
        "label2id": {n: i for i, n in enumerate(names)},
    }
    if model.problem != "single_label_classification" or len(names) == 1:
        found["problem_type"] = model.problem
    return found | ({OWN: {"threshold": model.threshold}} if model.threshold != 0.5 else {})


def config_json(model: PooledModel, kind: str, architecture: str, **more: Json) -> dict[str, Json]:
    """The content of ``config.json`` of the families that name query, key and value separately."""
    block = model.vit.block
    return {
        "architectures": [architecture],
        "model_type": kind,
        **backbone_json(model),
        **({"head_dim": block.head_dim} if block.head_dim else {}),
        "hidden_dropout_prob": block.dropout,
        "attention_probs_dropout_prob": block.attention_dropout,
        "qkv_bias": block.qkv_bias,
        "dtype": "float32",
        **labels_json(model),
        **more,
    }


def sidecars(model: PooledModel, config: Mapping[str, Json]) -> dict[str, Json]:
    """``config.json``, and ``preprocessor_config.json`` where the preprocessing is known."""
    found: dict[str, Json] = {"config.json": config}
    if model.preprocess is not None:
        found["preprocessor_config.json"] = to_huggingface(model.preprocess)
    return found


def lacks(model: PooledModel, own: dict[str, bool]) -> str | None:
    """What none of these models has, then what the family has not.

    Args:
        own: what the family lacks → whether the model has it; a name of the common list replaces that entry.
    """
    vit, block = model.vit, model.vit.block
    common = {
        f"{vit.embed.kind} stem": vit.embed.kind != "patch",
        "overlapping patches": vit.patch_embed.stride not in (None, vit.patch_size),
        "padding of images": vit.patch_embed.pad,
        "norm of patches": vit.patch_embed.norm,
        "patches without bias": not vit.patch_embed.bias,
        f"{vit.positions} positions": vit.positions != "learned",
        "model without class token": not vit.class_token,
        "class token without position": vit.class_token and not vit.class_position,
        "distillation token": vit.distillation_token,
        "register tokens": bool(vit.registers),
        "norm before the blocks": vit.pre_norm,
        "model without a final norm": not vit.final_norm,
        "post-norm blocks": block.order != "pre",
        "QK-norm": block.qk_norm,
        "LayerScale": block.layer_scale is not None,
        "SwiGLU": block.mlp == "swiglu",
        "attention without output bias": not block.out_bias,
        "attention without a bias of keys": block.qkv_bias and not block.key_bias,
        f"{model.pool} pooling": model.pool != "cls",
        "head with hidden layer": model.head.hidden is not None,
        "head with a norm": model.head.norm,
        "head without bias": bool(model.outputs) and not model.head.bias,
        "projection of its features": bool(model.outputs) and not model.labels,
        "unit of numbers beside its head": model.scaled,
    }
    return next((name for name, there in {**common, **own}.items() if there), None)


def with_spare(rule: Rule, name: str, spare: Callable[[Tensor], Tensor]) -> Rule:
    """The rule that also writes a tensor which the library wants and never uses.

    Args:
        spare: from ours, for the shape.
    """
    return replace(rule, theirs=(*rule.theirs, name), write=lambda value: (*rule.write(value), spare(value)))


def oblong(model: PooledModel) -> bool:
    """Are images or patches not square? Some families reckon with one side only."""
    vit = model.vit
    return vit.image_size[0] != vit.image_size[1] or vit.patch_size[0] != vit.patch_size[1]


def embeddings(prefix: str) -> list[Rule]:
    """Patch projection, class token, positions and final norm."""
    return [
        same("vit.class_token", f"{prefix}embeddings.cls_token"),
        same("vit.positions.embedding", f"{prefix}embeddings.position_embeddings"),
        *layer("vit.embed.projection", f"{prefix}embeddings.patch_embeddings.projection"),
        *layer("vit.norm", f"{prefix}layernorm"),
    ]


def _one_or_two(size: tuple[int, int]) -> int | list[int]:
    return size[0] if size[0] == size[1] else list(size)
