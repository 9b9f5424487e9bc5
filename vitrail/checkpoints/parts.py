"""What a model may have that few libraries know: a dialect that does not name such a part cannot hold the model.

So a dialect that was written before a part existed, ours or a third party's, never writes a model without it.
"""

from __future__ import annotations

from vitrail.checkpoints.description import Description
from vitrail.nn.head import HeadConfig
from vitrail.vit_config import ViTConfig

ROTARY, ATTENTION_NORM, MLP_NORM = "rotary positions", "norm inside of attention", "norm inside of MLPs"
ATTENTION_POOL, DECOMPOSED = "attention pool of its own shape", "decomposed relative positions"
RMS_NORM, BOTTLENECK = "norm by the root mean square", "patches through a narrower layer"
PLAIN_NORM, OTHER_EPS = "norm without factors", "two eps of norms"
PREFIX_POOL = "pooling of several tokens before the patches"
RELU, RELU_HEAD, TOKEN_SCALE = "ReLU", "head with a ReLU layer", "attention scaled by the width of a token"
COSINE, CONTINUOUS = "cosine attention", "relative positions computed by a network"
ALL = (
    ROTARY, ATTENTION_NORM, MLP_NORM, ATTENTION_POOL, DECOMPOSED, PREFIX_POOL, RELU, RELU_HEAD, TOKEN_SCALE, COSINE,
    CONTINUOUS, RMS_NORM, BOTTLENECK, PLAIN_NORM, OTHER_EPS,
)  # fmt: skip


def parts(description: Description) -> list[str]:
    """Those that the model has."""
    config = description.config
    vit, head = getattr(config, "model", None), getattr(config, "head", None)
    if not isinstance(vit, ViTConfig):
        return []
    found = {
        ROTARY: vit.rotation is not None,
        ATTENTION_NORM: vit.block.attention_norm,
        MLP_NORM: vit.block.mlp_norm,
        RMS_NORM: vit.block.norm == "rms",
        PLAIN_NORM: not vit.block.norm_affine,
        OTHER_EPS: vit.block.norm2_eps not in (None, vit.block.norm_eps),
        BOTTLENECK: vit.patch_embed.bottleneck is not None,
        PREFIX_POOL: bool(getattr(config, "pool_tokens", ())),
        DECOMPOSED: vit.decomposed is not None,
        ATTENTION_POOL: getattr(config, "attention_pool", None) is not None,
        RELU: vit.block.mlp == "relu",
        COSINE: vit.block.cosine,
        CONTINUOUS: vit.continuous,
        TOKEN_SCALE: vit.block.scale == "token",
        RELU_HEAD: isinstance(head, HeadConfig) and bool(head.hidden) and head.activation == "relu",
    }
    return [name for name, there in found.items() if there]
