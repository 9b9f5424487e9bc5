"""What a model may have that few libraries know: a dialect that does not name such a part cannot hold the model.

So a dialect that was written before a part existed, ours or a third party's, never writes a model without it.
"""

from __future__ import annotations

from vitrail.checkpoints.description import Description
from vitrail.vit_config import ViTConfig

ROTARY, ATTENTION_NORM, MLP_NORM = "rotary positions", "norm inside of attention", "norm inside of MLPs"
ATTENTION_POOL, DECOMPOSED = "attention pool of its own shape", "decomposed relative positions"
PREFIX_POOL = "pooling of several tokens before the patches"


def parts(description: Description) -> list[str]:
    """Those that the model has."""
    config = description.config
    vit = getattr(config, "model", None)
    if not isinstance(vit, ViTConfig):
        return []
    found = {
        ROTARY: vit.rotation is not None,
        ATTENTION_NORM: vit.block.attention_norm,
        MLP_NORM: vit.block.mlp_norm,
        PREFIX_POOL: bool(getattr(config, "pool_tokens", ())),
        DECOMPOSED: vit.decomposed is not None,
        ATTENTION_POOL: getattr(config, "attention_pool", None) is not None,
    }
    return [name for name, there in found.items() if there]
