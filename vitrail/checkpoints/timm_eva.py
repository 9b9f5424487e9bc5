"""What timm's names say of its Eva class: EVA, EVA-02, rope ViTs, Perception Encoder, DINOv3.

Its models differ in arguments that leave no tensor; ``config.json`` on the hub has only the architecture's name.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from vitrail.checkpoints import dinov3_facts
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.shapes import usual_heads
from vitrail.checkpoints.timm_config import TimmConfig, hint_of
from vitrail.errors import UserError
from vitrail.nn.rotary import RotaryConfig

EPS, OTHER_EPS = 1e-6, 1e-5
_EVA = re.compile(r"(^|[^a-z])eva(02|_giant)|^vit.*(_rope|_dinov3|_lingbot|_pe_(core|lang|spatial)_)|sapiens2")
_PLAIN = re.compile(r"^(vit|deit|beit|flexivit|aimv2)")  # of other classes, if not of this one
_HEADS = {512: 8, 640: 10, 1536: 16, 1792: 16}

# By architecture: the arguments that its tensors do not show. The first that matches counts.
_ROPE = {"use_rot_pos_emb": True, "rope_grid_indexing": "ij", "rope_temperature": 10000.0}
_DINOV3 = {**_ROPE, "rope_type": "dinov3", "rope_temperature": 100.0, "rope_rotate_half": True, "eps": OTHER_EPS}
_PE = {**_ROPE, "rope_grid_indexing": "xy", "eps": OTHER_EPS, "attn_pool_num_heads": 8}
_ARGUMENTS: tuple[tuple[str, dict[str, Any]], ...] = (
    (r"_dinov3", {**_DINOV3, "global_pool": "avg"}),
    (r"_lingbot", _DINOV3),
    (r"_pe_core_(tiny|small|large)_", {**_PE, "ref_feat_shape": (24, 24), "rope_grid_offset": 1.0}),
    (r"_pe_core_base_", {**_PE, "ref_feat_shape": (14, 14), "rope_grid_offset": 1.0}),
    (r"_pe_\w+_gigantic_", {**_PE, "ref_feat_shape": (32, 32), "global_pool": "avg"}),
    (r"_pe_(lang|spatial)_", {**_PE, "ref_feat_shape": (32, 32), "rope_grid_offset": 1.0, "global_pool": "avg"}),
    (r"_rope_mixed", {**_ROPE, "rope_type": "mixed", "rope_grid_indexing": "xy", "rope_temperature": 10.0}),
    (r"_rope_reg", {**_ROPE, "ref_feat_shape": (16, 16)}),
    (r"_rope", {**_ROPE, "rope_grid_indexing": "xy", "rope_temperature": 100.0}),
    (r"eva02_enormous|eva_giant", {}),
    (r"eva02", {**_ROPE, "ref_feat_shape": (16, 16)}),
)  # fmt: skip
_POST_NORM = re.compile("eva02_enormous")


def is_eva(names: Collection[str], beside: Beside) -> bool:
    """Is a file with timm's names of this class? By its architecture's name, else by what only this class has."""
    if not {"patch_embed.proj.weight", "blocks.0.attn.proj.weight"} <= set(names) or "storage_tokens" in names:
        return False
    if _EVA.search(hint := hint_of(beside)):
        return True
    if isinstance(beside.config.get("architecture"), str) and _PLAIN.search(hint):
        return False
    own = {"blocks.0.attn.q_proj.weight", "blocks.0.attn.norm.weight", "blocks.0.mlp.norm.weight", "rope.freqs"}
    bare = "pos_embed" not in names and not any("relative_position" in name for name in names)
    return bool(own & set(names)) or (bare and "reg_token" in names and "blocks.0.gamma_1" in names)


def arguments(meta: TimmConfig, names: Collection[str]) -> tuple[dict[str, Any], bool]:
    """Those of the constructor that the tensors do not show, and whether a name or config says them.

    Raises:
        UserError: a model that computes what Vitrail does not.
    """
    if "sapiens2" in meta.hint or meta.args.get("rope_type") == "mrope":
        raise UserError(f"by its name it is timm's {meta.hint}, which Vitrail cannot compute; use a plain ViT")
    known = next((args for pattern, args in _ARGUMENTS if re.search(pattern, meta.hint)), None)
    found = dict(_ROPE if known is None else known)
    if known is None and "rope.freqs" in names:
        found |= {"rope_type": "mixed", "rope_grid_indexing": "xy"}
    elif known is None:
        found |= {"ref_feat_shape": (16, 16)}
    return {**found, **meta.args}, known is not None or "use_rot_pos_emb" in meta.args


def rotary(args: dict[str, Any]) -> dict[str, Any] | None:
    """A :class:`RotaryConfig` as plain values; None: nothing turns."""
    if not args.get("use_rot_pos_emb", False):
        return None
    found: dict[str, Any] = {"theta": float(args.get("rope_temperature", 10000.0))}
    kind = args.get("rope_type", "cat")
    if kind == "dinov3":
        if args.get("rope_grid_offset"):
            raise UserError("rope_grid_offset of centred rotary positions is not computed here; use timm")
        return {**found, "coordinates": "centred"}
    if kind == "mixed":
        return {**found, "mixed": True}
    reference = args.get("ref_feat_shape")
    if reference:
        found["reference"] = (reference, reference) if isinstance(reference, int) else tuple(reference)
    return {**found, "offset": float(args.get("rope_grid_offset", 0.0))}


def rotary_arguments(rotary: RotaryConfig | None) -> dict[str, Any]:
    """The reverse, in the order of channels that is ours."""
    if rotary is None:
        return {"use_rot_pos_emb": False}
    kind = "mixed" if rotary.mixed else "dinov3" if rotary.coordinates == "centred" else "cat"
    return {
        "use_rot_pos_emb": True,
        "rope_type": kind,
        "rope_temperature": rotary.theta,
        "rope_grid_indexing": "xy",
        "rope_grid_offset": rotary.offset,
        "ref_feat_shape": None if rotary.reference is None else list(rotary.reference),
        "rope_rotate_half": False,
    }


def heads(meta: TimmConfig, dim: int) -> int:
    """Attention heads of a model of this width."""
    if "num_heads" in meta.args:
        return int(meta.args["num_heads"])
    if "dinov3" in meta.hint:
        return dinov3_facts.heads(dim)
    return 24 if "giant_patch16_lingbot" in meta.hint else _HEADS.get(dim) or usual_heads(dim)


def is_post_norm(meta: TimmConfig) -> bool:
    """Is the output of each branch normalised, instead of its input?"""
    return bool(meta.args.get("use_post_norm", _POST_NORM.search(meta.hint) is not None))
