"""A table of names drafted from names and shapes: what they determine, and what had to be guessed.

Weights do not tell the number of heads, the activation, or whether norms stand before or after a branch. Such settings
are taken from a ``config.json`` next to the file where it has them, else guessed, and each guess is listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from vitrail.checkpoints.naming import outside as outer
from vitrail.checkpoints.naming import roles
from vitrail.checkpoints.naming.layers import Blocks, Layer, blocks, layers
from vitrail.checkpoints.naming.outside import Outside
from vitrail.checkpoints.naming.places import HWC, Place
from vitrail.checkpoints.shapes import Shapes, geometry, usual_heads
from vitrail.errors import UserError

EPS = 1e-5  # of nn.LayerNorm, which such models use as it is
KEYS = {
    "heads": ("num_heads", "heads", "nhead", "n_heads", "num_attention_heads", "n_head"),
    "image_size": ("image_size", "img_size"),
    "patch_size": ("patch_size",),
    "channels": ("channels", "in_channels", "num_channels", "in_chans"),
    "norm_first": ("norm_first", "pre_norm"),
    "activation": ("activation", "act", "hidden_act", "act_layer"),
    "norm_eps": ("norm_eps", "layer_norm_eps", "eps"),
    "pool": ("pool", "global_pool", "pooling"),
    "scale": ("attention_scale", "scale"),
}
ACTIVATIONS = {
    "gelu": "gelu",
    "relu": "relu",
    "gelu_tanh": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "quick_gelu": "quick_gelu",
}
POOLS = {"cls": "cls", "token": "cls", "mean": "mean", "avg": "mean", "max": "max", "class_token": "cls"}


@dataclass
class Draft:
    """A drafted table.

    Attributes:
        vit: the fields of a :class:`vitrail.vit.ViTConfig`.
        pool, head, outputs: of the model around it.
        places: by our name.
        ignored: names in the file that the model does not use.
        undecided: one sentence for each guess.
        unplaced: names in the file without a counterpart.
    """

    vit: dict[str, Any]
    pool: str = "cls"
    head: dict[str, Any] = field(default_factory=dict)
    outputs: int = 0
    places: dict[str, Place] = field(default_factory=dict)
    ignored: list[str] = field(default_factory=list)
    undecided: list[str] = field(default_factory=list)
    unplaced: list[str] = field(default_factory=list)

    def put(self, ours: str, layer: Layer, names: Mapping[str, str] | None = None, **options: Any) -> None:
        """A layer of theirs as one of ours, part by part."""
        for part, name in (names or layer.names).items():
            more = options if part in ("", "weight") else {}
            self.places[f"{ours}.{part}" if part else ours] = Place((name,), **more)


def draft(shapes: Shapes, config: Mapping[str, Any], extras: Sequence[str] = ()) -> Draft:
    """The table of a model with these tensors.

    Args:
        config: settings by the names of :data:`KEYS`.
        extras: names of tensors that are no part of the model.

    Raises:
        UserError: the tensors are of no ViT whose parts their shapes tell.
    """
    found = blocks(shapes)
    if found is None:
        raise UserError("it has no numbered blocks of one shape, as a ViT has; a table of its names cannot be drafted")
    own = layers(found.shapes)
    linear = [layer for layer in own if len(layer.shape) == 2]
    dim = _width(linear)
    matched = None if dim is None else roles.matrices(linear, dim)
    if dim is None or matched is None:
        shown = ", ".join(f"{layer.path} {list(layer.shape)}" for layer in linear[:6])
        raise UserError(f"its blocks hold no attention and MLP of known shapes ({shown}); a table cannot be drafted")
    made = Draft({"dim": dim, "depth": found.depth}, ignored=list(extras))
    rest = _attention_and_mlp(made, found, matched, own, dim)
    beside = {
        name: shape for name, shape in shapes.items() if not name.startswith(found.prefix) or not _in(name, found)
    }
    parts = outer.read(layers(beside), dim, found.prefix)
    _embedding(made, parts, config)
    _positions(made, parts, config)
    _ending(made, parts, config)
    _settings(made, parts, config, matched.layers, shapes)
    made.unplaced = [*(found.name(name) for name in rest), *outer.names(parts.rest)]
    made.ignored += outer.names(parts.dropped)
    return made


def setting(config: Mapping[str, Any], key: str) -> Any:
    """The value of a config under any of its usual names, or None."""
    return next((config[name] for name in KEYS[key] if config.get(name) is not None), None)


def _in(name: str, found: Blocks) -> bool:
    number = name[len(found.prefix) :].partition(".")[0]
    return number.isdigit()


def _width(linear: Sequence[Layer]) -> int | None:
    """What every matrix of a block has as one of its sides."""
    sides = [set(layer.shape) for layer in linear]
    common = set.intersection(*sides) if sides else set()
    return min(common) if common else None


def _attention_and_mlp(made: Draft, found: Blocks, matched: roles.Matched, own: Sequence[Layer], dim: int) -> list[str]:
    """Places of what a block holds; returns the names that have none."""
    assigned = matched.layers
    ours = "vit.blocks.{i}."

    def named(layer: Layer) -> dict[str, str]:
        return {part: found.name(name) for part, name in layer.names.items()}

    projections = [assigned[role] for role in ("qkv", "q", "k", "v", "kv") if role in assigned]
    for part in ("weight", "bias"):
        names = [named(layer)[part] for layer in projections if part in layer.names]
        if len(names) == len(projections):
            made.places[f"{ours}attention.qkv.{part}"] = Place(tuple(names))
    pairs = {"attention.out": "out", "mlp.fc1": "fc1", "mlp.fc2": "fc2"}
    for mine, role in pairs.items():
        made.put(ours + mine, assigned[role], named(assigned[role]))
    if not matched.sure:
        made.undecided.append("which matrix is which in a block: their names and shapes allow several orders")
    rest = [layer for layer in own if layer not in assigned.values()]
    norm = [layer for layer in rest if layer.shape == (dim,) and set(layer.names) == {"weight", "bias"}]
    ordered = roles.norms(norm, assigned)
    if ordered is not None:
        for mine, layer in ordered.layers.items():
            made.put(ours + mine, layer, named(layer))
        if not ordered.sure:
            made.undecided.append("which norm of a block is the first: taken in the order of their names")
        rest = [layer for layer in rest if layer not in norm]
    scales = roles.in_order(layer for layer in rest if "" in layer.names and layer.shape == (dim,))
    if len(scales) == 2:
        for number, layer in enumerate(scales, 1):
            made.put(f"{ours}branch{number}.scale.gamma", layer, named(layer))
        rest = [layer for layer in rest if layer not in scales]
    width = assigned["out"].shape[1]
    small = roles.in_order(
        layer for layer in rest if layer.has_bias and len(layer.shape) == 1 and width % layer.shape[0] == 0
    )
    if len(small) == 2 and small[0].shape == small[1].shape:
        for mine, layer in zip(("attention.k_norm", "attention.q_norm"), small, strict=True):
            made.put(ours + mine, layer, named(layer))
        rest = [layer for layer in rest if layer not in small]
    if len(projections) > 0 and any("bias" in layer.names for layer in projections):
        biased = [layer for layer in projections if "bias" in layer.names]
        if len(biased) < len(projections):
            rest += [Layer(layer.path, {"": layer.names["bias"]}, ()) for layer in biased]
    return outer.names(rest)


def _embedding(made: Draft, parts: Outside, config: Mapping[str, Any]) -> None:
    if parts.projection is None:
        raise UserError("it has no projection of patches that its shapes tell; a table cannot be drafted")
    dim = parts.kernel[0]
    if parts.flat:
        patch, inputs = setting(config, "patch_size"), parts.projection.shape[1]
        pair = None if patch is None else (patch, patch) if isinstance(patch, int) else tuple(patch)
        parts.kernel = (dim, *outer.square_patch(inputs, pair, setting(config, "channels")))
        made.put("vit.embed.projection", parts.projection, order=HWC)
        if parts.kernel[1] > 1:
            made.undecided.append(
                "order of a flattened patch: height, width, channel, as einops code has it (order: hwc)"
            )
        norms = [layer for layer in parts.rest if layer.shape == (inputs,) and layer.has_bias]
        if norms and parts.pre_norm is not None:  # Dual PatchNorm
            made.put("vit.embed.norm_out", parts.pre_norm)
            made.places |= {
                f"vit.embed.norm_in.{part}": Place((name,), order=HWC) for part, name in norms[0].names.items()
            }
            parts.rest.remove(norms[0])
            parts.pre_norm = None
            made.vit["embed"] = {"kind": "patch", "norm": True}
    else:
        made.put("vit.embed.projection", parts.projection)
    if not parts.projection.has_bias:
        made.vit["embed"] = {"kind": "patch", "bias": False}
    for name in ("class_token", "distillation_token", "registers"):
        layer = getattr(parts, name)
        if layer is not None:
            wanted = (1, math.prod(layer.shape) // dim, dim)
            made.put(f"vit.{name}", layer, **({} if layer.shape == wanted else {"shape": layer.shape}))
    made.vit |= {
        "class_token": parts.class_token is not None,
        "distillation_token": parts.distillation_token is not None,
    }
    if parts.registers is not None:
        made.vit["registers"] = math.prod(parts.registers.shape) // dim


def _positions(made: Draft, parts: Outside, config: Mapping[str, Any]) -> None:
    size, kernel = setting(config, "image_size"), parts.kernel
    if parts.positions is None:
        if size is None:
            size = 224 // kernel[2] * kernel[2]
            made.undecided.append(f"image size: {size}, since there are no positions to count (image_size)")
        rows = math.prod((each // patch) for each, patch in zip(_pair(size), kernel[2:], strict=True))
        made.vit |= {**geometry(kernel, rows, size), "positions": "none"}
        made.undecided.append("positions: none; fixed ones leave no tensor (positions: sincos_2d, sincos_1d or none)")
        return
    rows, dim = math.prod(parts.positions.shape) // kernel[0], kernel[0]
    prefix = made.vit["class_token"] + made.vit["distillation_token"]
    for own in (prefix, 0):
        try:
            made.vit |= geometry(kernel, rows - own, size)
        except UserError:
            continue
        if own != prefix:
            made.vit["class_position"] = False
        break
    else:
        raise UserError(
            f"its {rows} positions are those of no square image; put image_size into config.json next to the file"
        )
    shape = () if parts.positions.shape == (1, rows, dim) else parts.positions.shape
    (name,) = parts.positions.names.values()
    made.places["vit.positions.embedding"] = Place((name,), shape)


def _ending(made: Draft, parts: Outside, config: Mapping[str, Any]) -> None:
    """Pooling, norms and head."""
    named = setting(config, "pool")
    made.pool = POOLS.get(str(named), "cls" if made.vit["class_token"] else "mean")
    if named is None and made.vit["class_token"]:
        made.undecided.append("pooling: the class token; the mean of all tokens would leave the same tensors (pool)")
    if made.pool != "cls" and made.vit["class_token"]:
        made.undecided.append("pooling: the mean of the patches, without the class token")
    if parts.head and parts.head[-1].shape[1] == 2 * made.vit["dim"] and len(parts.head) == 1:
        made.pool = "cls_mean"
    if made.pool == "cls" and parts.norm is None:  # of one token, a norm before pooling is the same as one after it
        parts.norm, parts.head_norm = parts.head_norm, None
    for ours, layer in (("vit.pre_norm", parts.pre_norm), ("vit.norm", parts.norm), ("head.norm", parts.head_norm)):
        if layer is not None:
            made.put(ours, layer)
    made.vit |= {"pre_norm": parts.pre_norm is not None, "final_norm": parts.norm is not None}
    made.head = {"norm": parts.head_norm is not None}
    if parts.head:
        made.put("head.output", parts.head[-1])
        made.outputs, made.head["bias"] = parts.head[-1].shape[0], parts.head[-1].has_bias
    if len(parts.head) == 2:
        made.put("head.hidden", parts.head[0])
        made.head |= {"hidden": parts.head[0].shape[0], "activation": "gelu"}
        made.undecided.append("activation in the head: gelu (tanh, gelu or relu)")


def _settings(
    made: Draft, parts: Outside, config: Mapping[str, Any], assigned: Mapping[str, Layer], shapes: Shapes
) -> None:
    """The rest of the architecture."""
    dim, inner = made.vit["dim"], assigned["out"].shape[1]
    norm = made.places.get("vit.blocks.{i}.attention.q_norm.weight")
    heads = setting(config, "heads")
    if heads is None and norm is not None:
        heads = inner // shapes[norm.names[0].replace("{i}", "0").replace("{n}", "1")][0]
    if heads is None:
        heads = usual_heads(dim) if inner == dim and inner % usual_heads(dim) == 0 else max(inner // 64, 1)
        made.undecided.append(f"attention heads: {heads} of {inner // heads} channels (heads)")
    if not isinstance(heads, int) or heads < 1 or inner % heads:
        raise UserError(f"{heads!r} heads do not divide the {inner} channels of its attention; correct config.json")
    hidden, height = assigned["fc2"].shape[1], assigned["fc1"].shape[0]
    in_torch = any(name.endswith("self_attn.in_proj_weight") for name in shapes)
    last = parts.norm is not None or parts.head_norm is not None
    first = setting(config, "norm_first")
    if first is None:
        first = last or not in_torch
        reason = "there is a norm after the blocks" if last else "there is no norm after the blocks"
        made.undecided.append(f"norms: {'before' if first else 'after'} each branch, as {reason} (order: pre or post)")
    named = setting(config, "activation")
    if height != hidden:
        activation = "swiglu"
    elif named is not None:
        activation = ACTIVATIONS.get(str(named).lower(), "")
    else:
        activation = "gelu" if first else "relu"
        made.undecided.append(f"activation: {activation} (mlp: gelu, gelu_tanh, quick_gelu or relu)")
    if not activation:
        raise UserError(f"activation {named!r} is none of {', '.join(ACTIVATIONS)}; correct config.json")
    made.vit |= {"heads": heads, "mlp_dim": hidden, "resampling": "bicubic"}
    made.vit["block"] = {
        "order": "pre" if first else "post",
        "mlp": activation,
        "norm_eps": setting(config, "norm_eps") or EPS,
        "head_dim": None if inner == dim and dim % heads == 0 else inner // heads,
        "scale": setting(config, "scale") or _scale(made, parts),
        "qkv_bias": "vit.blocks.{i}.attention.qkv.bias" in made.places,
        "out_bias": assigned["out"].has_bias,
        "qk_norm": norm is not None,
        "layer_scale": 1e-5 if "vit.blocks.{i}.branch1.scale.gamma" in made.places else None,
    }


def _scale(made: Draft, parts: Outside) -> str:
    """Early code divides scores by the root of a token's width; it is told by the name of its patch projection."""
    assert parts.projection is not None
    if not parts.projection.path.endswith("patch_to_embedding"):
        return "head"
    made.undecided.append("attention scores: divided by the root of a token's width, as early code does (scale: token)")
    return "token"


def _pair(size: int | Sequence[int]) -> tuple[int, int]:
    return (size, size) if isinstance(size, int) else (size[0], size[1])
