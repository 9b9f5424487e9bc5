"""diffusers' DiTTransformer2DModel: the ``transformer`` folder of a DiTPipeline.

Every block of theirs has the embeddings of time and class, all alike. The VAE that makes latents of pictures stays with
their library.
"""

from __future__ import annotations

from collections.abc import Collection

from vitrail.checkpoints import diffusion_transformers as shared
from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.description import Description
from vitrail.checkpoints.parts import OTHER_EPS, PLAIN_NORM
from vitrail.checkpoints.rules import Rule, layer, stacked_layer, under
from vitrail.checkpoints.shapes import Shapes, depth_of
from vitrail.errors import UserError
from vitrail.files import Json
from vitrail.generate.diffusion import Config

LIBRARY = "diffusers"
TASKS = (shared.TASK,)
FILE = "diffusion_pytorch_model.safetensors"
IGNORED = ("pos_embed.pos_embed",)
PARTS = (PLAIN_NORM, OTHER_EPS)
BLOCKS = "transformer_blocks."
EMBEDDINGS, CLASSES = "norm1.emb.", "class_embedder.embedding_table.weight"
EPS = 1e-5  # of the norm before the MLP
HEADS = 16


def canonical(name: str) -> str:
    return name


def matches(names: Collection[str], beside: Beside) -> bool:
    """By the embeddings in the first block, and the layers after the last."""
    return {f"{BLOCKS}0.{EMBEDDINGS}{CLASSES}", "proj_out_1.weight"} <= set(names)


def describe(shapes: Shapes, beside: Beside) -> Description:
    """Raises UserError: another kind of model than DiT's."""
    config = beside.config
    dim, channels, patch = shapes["pos_embed.proj.weight"][:3]
    if config.get("norm_type", "ada_norm_zero") != "ada_norm_zero" or config.get("norm_elementwise_affine", False):
        raise UserError("this transformer of diffusers has other norms than DiT's, which Vitrail does not compute")
    if config.get("activation_fn", "gelu-approximate") != "gelu-approximate":
        raise UserError(f"this transformer of diffusers has the activation {config['activation_fn']!r}, not DiT's")
    heads = config.get("num_attention_heads", HEADS)
    told = "num_attention_heads" in config
    assumed = () if told else (f"{HEADS} heads: DiT's; no config.json gives others",)
    return shared.description(
        image_size=config.get("sample_size", 32),
        channels=channels,
        patch=patch,
        dim=dim,
        depth=depth_of(shapes, BLOCKS),
        heads=heads,
        mlp_dim=shapes[f"{BLOCKS}0.ff.net.0.proj.weight"][0],
        num_classes=shapes[f"{BLOCKS}0.{EMBEDDINGS}{CLASSES}"][0] - 1,
        outputs=shapes["proj_out_2.weight"][0] // patch**2,
        norm2_eps=config.get("norm_eps", EPS),
        sinusoids_end=1,
        assumed=assumed,
    )


def rules(description: Description) -> list[Rule]:
    config = description.config
    assert isinstance(config, Config)
    model = config.model
    outputs = model.channels * (2 if config.variances else 1)
    embeddings = [f"{BLOCKS}{block}.{EMBEDDINGS}" for block in range(model.depth)]
    found = [
        *layer("dit.vit.embed.projection", "pos_embed.proj"),
        *(
            rule
            for ours, theirs in (("fc1", "linear_1"), ("fc2", "linear_2"))
            for rule in shared.equal_layer(
                f"dit.times.0.{ours}", *(f"{each}timestep_embedder.{theirs}" for each in embeddings)
            )
        ),
        shared.equal("dit.classes.table.weight", *(f"{each}{CLASSES}" for each in embeddings)),
        *layer("dit.last_modulation.linear", "proj_out_1"),
        *shared.patches_last_rows("dit.pixels", "proj_out_2", outputs, model.patch_size),
    ]
    for block in range(model.depth):
        found += layer(f"dit.modulations.{block}.linear", f"{BLOCKS}{block}.norm1.linear")
        found += under(f"dit.vit.blocks.{block}.", f"{BLOCKS}{block}.", BLOCK)
    return found


BLOCK = [
    *stacked_layer("attention.qkv", "attn1.to_q", "attn1.to_k", "attn1.to_v"),
    *layer("attention.out", "attn1.to_out.0"),
    *shared.mlp("mlp", "ff.net.0.proj", "ff.net.2"),
]


def lacks(description: Description) -> str | None:
    """What no DiTTransformer2DModel has."""
    assert isinstance(description.config, Config)
    return shared.lacks(description.config, eps=(description.config.model.block.norm2_eps,), sinusoids_end=1)


def sidecars(description: Description) -> dict[str, Json]:
    """``config.json``."""
    config = description.config
    assert isinstance(config, Config)
    model = config.model
    return {
        "config.json": {
            "_class_name": "DiTTransformer2DModel",
            "activation_fn": "gelu-approximate",
            "attention_bias": True,
            "attention_head_dim": model.head_dim,
            "dropout": 0.0,
            "in_channels": model.channels,
            "norm_elementwise_affine": False,
            "norm_eps": model.block.norm2_eps or model.block.norm_eps,
            "norm_num_groups": 32,
            "norm_type": "ada_norm_zero",
            "num_attention_heads": model.heads,
            "num_embeds_ada_norm": len(config.classes),
            "num_layers": model.depth,
            "out_channels": model.channels * (2 if config.variances else 1),
            "patch_size": model.patch_size[0],
            "sample_size": model.image_size[0],
            "upcast_attention": False,
        }
    }
