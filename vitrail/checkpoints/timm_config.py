"""What timm's names of architectures and its ``config.json`` say, and writing such a file.

The file is that of timm's models on the Hugging Face hub: ``architecture`` (a registered name), ``model_args`` (what
its constructor gets beside, newer timm only), ``pretrained_cfg`` (preprocessing), ``label_names``.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from vitrail.checkpoints.beside import Beside
from vitrail.checkpoints.pooled import PooledModel
from vitrail.checkpoints.shapes import usual_heads
from vitrail.checkpoints.tensors_only import plain
from vitrail.data.indexing.names import Classes
from vitrail.data.transforms.preprocess import PreprocessConfig
from vitrail.data.transforms.processors import from_timm, to_timm
from vitrail.errors import UserError
from vitrail.nn.resnet_stem import ResNetStemConfig
from vitrail.ops.grid import Pair

ACTIVATIONS = {
    "gelu": "gelu", "gelu_tanh": "gelu_tanh", "quick_gelu": "quick_gelu", "silu": "silu", "swish": "silu",
}  # fmt: skip
POOLS: dict[str, Any] = {"token": "cls", "avg": "mean", "max": "max", "map": "attention"}
OWN = "vitrail"  # in config.json: what timm's own keys cannot say and the tensors do not show

# Names of architectures whose tensors look like a plain ViT's, but which compute something else.
_OTHERS = re.compile(r"(^|_)(rpn|relpos|srelpos|xp|18x2|aimv2\w*)(_|$)")
_HEADS = {r"^vit_base_patch16_gap_": 16, r"_giantopt_": 16, r"^test_vit2?$": 2, r"^test_vit": 3}
_TANH = re.compile(r"_(base_patch32|so400m_patch16|giantopt_patch16)_siglip_|_large_patch16_siglip_(gap_)?512")
_CLIP_WIDTHS = (512, 640, 768, 1024, 1280)  # of the space of images and texts; no data set has as many classes

_IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
_CLIP = {"mean": (0.48145466, 0.4578275, 0.40821073), "std": (0.26862954, 0.26130258, 0.27577711)}
_HALF = {"mean": (0.5,), "std": (0.5,)}
WEIGHT_EPS, GROUP_EPS = 1e-8, 1e-5  # of the hybrids' ResNets, in the standardised kernels and in GroupNorm
_LARGE = 300  # pixels; up to here timm's augreg and DeiT models are evaluated on the central 90 %, above on everything

_SIZES = {
    (192, 12, 768): "tiny", (384, 12, 1536): "small", (768, 12, 3072): "base", (1024, 24, 4096): "large",
    (1280, 32, 5120): "huge", (1408, 40, 6144): "giant", (1664, 48, 8192): "gigantic", (1152, 27, 4304): "so400m",
    (512, 12, 2048): "medium",
}  # fmt: skip
_HYBRIDS = {
    (): "vit_tiny_r_s16_p8", (2, 2, 2, 2): "vit_small_r26_s32",
    (3, 4, 9): "vit_base_r50_s16", (3, 4, 6, 3): "vit_large_r50_s32",
}  # fmt: skip
_NAMES = """
vit_tiny_patch16_224 vit_tiny_patch16_384 vit_small_patch8_224 vit_small_patch16_224 vit_small_patch16_384
vit_small_patch32_224 vit_small_patch32_384 vit_base_patch8_224 vit_base_patch16_224 vit_base_patch16_384
vit_base_patch32_224 vit_base_patch32_384 vit_large_patch14_224 vit_large_patch16_224 vit_large_patch16_384
vit_large_patch32_224 vit_large_patch32_384 vit_huge_patch14_224 vit_giant_patch14_224 vit_gigantic_patch14_224
deit_tiny_distilled_patch16_224 deit_small_distilled_patch16_224 deit_base_distilled_patch16_224
deit_base_distilled_patch16_384 deit3_small_patch16_224 deit3_small_patch16_384 deit3_medium_patch16_224
deit3_base_patch16_224 deit3_base_patch16_384 deit3_large_patch16_224 deit3_large_patch16_384 deit3_huge_patch14_224
vit_small_patch14_dinov2 vit_base_patch14_dinov2 vit_large_patch14_dinov2 vit_giant_patch14_dinov2
vit_small_patch14_reg4_dinov2 vit_base_patch14_reg4_dinov2 vit_large_patch14_reg4_dinov2 vit_giant_patch14_reg4_dinov2
vit_base_patch32_clip_224 vit_base_patch32_clip_256 vit_base_patch16_clip_224 vit_large_patch14_clip_224
vit_large_patch14_clip_336 vit_huge_patch14_clip_224 vit_giant_patch14_clip_224 vit_gigantic_patch14_clip_224
vit_base_patch32_clip_quickgelu_224 vit_base_patch16_clip_quickgelu_224 vit_large_patch14_clip_quickgelu_224
vit_large_patch14_clip_quickgelu_336 vit_huge_patch14_clip_quickgelu_224 vit_base_patch16_siglip_224
vit_base_patch16_siglip_256 vit_base_patch16_siglip_384 vit_base_patch16_siglip_512 vit_base_patch32_siglip_256
vit_large_patch16_siglip_256 vit_large_patch16_siglip_384 vit_so400m_patch14_siglip_224 vit_so400m_patch14_siglip_384
vit_tiny_r_s16_p8_224 vit_tiny_r_s16_p8_384 vit_small_r26_s32_224 vit_small_r26_s32_384 vit_base_r50_s16_224
vit_base_r50_s16_384 vit_large_r50_s32_224 vit_large_r50_s32_384
"""


@dataclass(frozen=True)
class TimmConfig:
    """The settings in the file and next to it.

    Attributes:
        architecture: timm's name, empty where there is no config.
        hint: the same, else the name of the file or its folder.
        args: of the constructor, beyond the architecture's own.
        cfg: ``pretrained_cfg``.
        config: all of ``config.json``, empty where it is another library's.
    """

    architecture: str
    hint: str
    args: dict[str, Any]
    cfg: dict[str, Any]
    config: dict[str, Any]

    def heads(self, dim: int) -> int:
        """Attention heads of a model of this width."""
        if "num_heads" in self.args:
            return int(self.args["num_heads"])
        known = [heads for pattern, heads in _HEADS.items() if re.search(pattern, self.hint)]
        return known[0] if known else usual_heads(dim)

    def activation(self) -> str:
        """Of the MLPs: ours, or ``silu``.

        Raises:
            UserError: one that we do not have.
        """
        if name := self.args.get("act_layer"):
            if str(name).lower() not in ACTIVATIONS:
                raise UserError(f"act_layer {name!r} is none of {', '.join(ACTIVATIONS)}; Vitrail cannot compute it")
            return ACTIVATIONS[str(name).lower()]
        if _TANH.search(self.hint):
            return "gelu_tanh"
        return "quick_gelu" if "quickgelu" in self.hint else "gelu"

    def norm_eps(self, pre_norm: bool) -> float:
        """Of LayerNorm: CLIP's towers have PyTorch's default, all others 1e-6.

        Raises:
            UserError: another norm.
        """
        if named := self.args.get("norm_layer"):
            if str(named).replace("_", "").lower() not in ("layernorm", "layernormfp32"):
                raise UserError(f"norm_layer {named!r} is no LayerNorm; this model cannot be computed here")
            return 1e-6
        clip = "_clip_" in self.architecture if self.architecture else pre_norm
        return 1e-5 if clip else 1e-6

    def pool(self) -> str | None:
        """timm's ``global_pool``, or None where it is not given.

        Raises:
            UserError: prefix tokens in the mean, which we do not do.
        """
        if self.args.get("pool_include_prefix", self.architecture == "test_vit3"):
            raise UserError("pool_include_prefix is set, which Vitrail does not do; this model cannot be computed here")
        found = [where["global_pool"] for where in (self.args, self.cfg, self.config) if "global_pool" in where]
        return found[0] if found else None

    def image_sizes(self) -> list[Pair]:
        """Native (height, width), the most binding first."""
        found = [self.args.get("img_size"), (self.cfg.get("input_size") or (None,))[1:]]
        pairs = [(size, size) if isinstance(size, int) else tuple(size) for size in found if size]
        return [(int(height), int(width)) for height, width in pairs]

    def labels(self, outputs: int, pre_norm: bool, named: int) -> tuple[bool, str | None]:
        """Whether the outputs are classes (else CLIP's projection), and what of this was assumed.

        Args:
            pre_norm: CLIP's towers have a norm before their blocks, and hardly another model has.
            named: how many classes ``classes.json`` names.
        """
        if "labels" in (own := self.config.get(OWN, {})):
            return bool(own["labels"]), None
        clip = "clip" in self.hint if self.architecture else pre_norm
        tuned = named == outputs or self.names(outputs) or "_ft" in str(self.cfg.get("tag", ""))
        if not clip or tuned or outputs not in _CLIP_WIDTHS:
            return True, None
        return False, f"head: CLIP's projection to {outputs} features; class names in classes.json make it a classifier"

    def names(self, count: int) -> tuple[str, ...]:
        """Class names: descriptions where there are any; equal ones are distinguished by their label."""
        labels = self.config.get("label_names") or self.cfg.get("label_names") or self.cfg.get("labels") or ()
        if isinstance(labels, dict):
            labels = [labels[str(i)] for i in range(count) if str(i) in labels]
        descriptions = self.config.get("label_descriptions") or self.cfg.get("label_descriptions") or {}
        labels = [str(label) for label in labels]
        texts = [str(descriptions.get(label, label)) for label in labels] if isinstance(descriptions, dict) else labels
        number = Counter(texts)
        names = (
            text if number[text] == 1 else f"{text} ({label if label != text else i})"
            for i, (text, label) in enumerate(zip(texts, labels, strict=True))
        )
        return Classes(names, ((label,) for label in labels) if texts != labels else ())


def hint_of(beside: Beside) -> str:
    """timm's name of the architecture, else the name of the file or its folder, in small letters."""
    config = beside.config.get("architecture")
    return (config.split(".")[0] if isinstance(config, str) else beside.name).lower()


def read(beside: Beside) -> TimmConfig:
    """From ``config.json``, of timm's layout or its first one, where all stood in one mapping.

    Raises:
        UserError: an architecture that computes something else than its tensors' names imply.
    """
    config = beside.config if isinstance(beside.config.get("architecture"), str) else {}
    architecture = str(config.get("architecture", "")).split(".")[0]
    hint = hint_of(beside)
    if re.match("vit|eva|aimv2", hint) and _OTHERS.search(re.sub(r"[^a-z0-9]+", "_", hint)):
        raise UserError(f"by its name it is timm's {hint}, which Vitrail cannot compute; use a plain ViT")
    cfg = {key: value for key, value in (config.get("pretrained_cfg") or config).items() if value is not None}
    return TimmConfig(architecture, hint, config.get("model_args") or {}, cfg, config)


def preprocess(
    meta: TimmConfig, names: Collection[str], channels: int, size: Pair
) -> tuple[PreprocessConfig, str | None]:
    """From ``pretrained_cfg``, else what is usual for such a model, and what of it was assumed.

    Args:
        names: of the tensors.
        channels: of the model, as ``size``.
    """
    cfg = dict(meta.cfg)
    if {"mean", "std", "crop_pct", "interpolation"} & cfg.keys():
        shape = cfg.get("input_size") or (channels, *size)
        cfg["input_size"] = (channels, *(size if "img_size" in meta.args else shape[1:]))
        for key in ("mean", "std"):  # as timm does for models of other channels than their preprocessing's
            values = cfg.get(key, _IMAGENET[key])
            cfg[key] = values if len(values) in (1, channels) else [sum(values) / len(values)]
        return from_timm(cfg), None
    kind, values = "augreg", _HALF
    if "norm_pre.weight" in names or "clip" in meta.hint:
        kind, values = "CLIP", _CLIP
    elif {"dist_token", "mask_token", "blocks.0.ls1.gamma"} & set(names) or re.search(
        "deit|dino|moco|(^|[^a-z])mae", meta.hint
    ):
        kind, values = "ImageNet", _IMAGENET
    values = values if channels == 3 else _HALF
    share = 0.9 if max(size) < _LARGE and kind != "CLIP" else 1.0
    config = PreprocessConfig(
        size=size, channels=channels, resize="crop", crop_pct=share, interpolation="bicubic", **values
    )
    how = f"central {share:.0%}, bicubic, mean {', '.join(map(str, values['mean']))}"
    return (
        config,
        f"preprocessing: timm's usual for {kind} models ({how}); for others put timm's config.json next to the file",
    )


def require_norm(names: Collection[str], meta: TimmConfig) -> None:
    """Check that the norm after the blocks or the one after pooling is there, unless the config says that none is.

    Raises:
        UserError: part of the file is missing.
    """
    if not {"norm.weight", "fc_norm.weight"}.intersection(names) and meta.args.get("final_norm", True):
        raise UserError("it lacks norm.weight, the norm after the blocks; it is a part of a model, so fetch all of it")


def root(layers: tuple[int, ...]) -> str:
    """Where the first convolution of a hybrid's ResNet stands."""
    return "patch_embed.backbone" + (".stem" if layers else "")


def stride(layers: tuple[int, ...]) -> int:
    """How many times such a ResNet shrinks an image."""
    return 4 * 2 ** max(len(layers) - 1, 0)


def is_known(embed: ResNetStemConfig) -> bool:
    """Has timm a hybrid with this ResNet?"""
    same_eps = (embed.weight_eps, embed.weight_eps_of, embed.norm_eps) == (WEIGHT_EPS, "variance", GROUP_EPS)
    return embed.layers in _HYBRIDS and embed.width == 64 and same_eps


def architecture(model: PooledModel) -> str:
    """timm's name for a model: of the published model of this shape where there is one, else a base to deviate from.

    Its constructor has what ``model_args`` cannot say: eps of the norms, SwiGLU, DeiT's second token, a ResNet.
    """
    stem, base = _family(model)
    known = [name for name in _NAMES.split() if re.fullmatch(rf"{re.escape(stem)}(_\d+)?", name)]
    exact = [name for name in known if name.endswith(f"_{model.vit.image_size[0]}")]
    return next(iter([*exact, *known]), base)


def _family(model: PooledModel) -> tuple[str, str]:
    """The name without its image size (possibly of no published model), and the base of the family."""
    vit, block = model.vit, model.vit.block
    size = _SIZES.get((vit.dim, vit.depth, vit.mlp_dim), "none")
    patch = f"patch{vit.patch_size[0]}"
    base = "vit_base_patch16_224"
    if vit.embed.kind == "resnet":
        return _HYBRIDS[vit.embed.layers], f"{_HYBRIDS[vit.embed.layers]}_224"
    if vit.distillation_token:
        return f"deit_{size}_distilled_{patch}", "deit_tiny_distilled_patch16_224"
    if block.mlp == "swiglu":
        name = "vit_giant_patch14_reg4_dinov2" if vit.registers == 4 else "vit_giant_patch14_dinov2"
        return name, name
    if block.norm_eps == 1e-5:
        quick = "_quickgelu" if block.mlp == "quick_gelu" else ""
        return f"vit_{size}_{patch}_clip{quick}", "vit_base_patch16_clip_224"
    if model.pool == "attention":
        return f"vit_{size}_{patch}_siglip", base
    if block.layer_scale is None or size == "giant":  # the giant of DINOv2 has another MLP
        return f"vit_{size}_{patch}", base
    if vit.registers:
        return f"vit_{size}_{patch}_reg{vit.registers}_dinov2", base
    return f"vit_{size}_{patch}_dinov2" if vit.class_position else f"deit3_{size}_{patch}", base


def config_json(model: PooledModel) -> dict[str, Any]:
    """``config.json`` with every argument of the constructor, independent of the architecture's defaults."""
    vit, block, head = model.vit, model.vit.block, model.head
    swiglu = block.mlp == "swiglu"
    reduced, first = 1, "patch_embed.proj"
    if vit.embed.kind == "resnet":
        reduced, first = stride(vit.embed.layers), f"{root(vit.embed.layers)}.conv"
    pool = next((name for name, ours in POOLS.items() if ours == model.pool), "token")
    args = {
        "img_size": plain(vit.image_size),
        "patch_size": plain((vit.patch_size[0] // reduced, vit.patch_size[1] // reduced)),
        "in_chans": vit.channels,
        "num_classes": model.outputs,
        "global_pool": pool,
        "embed_dim": vit.dim,
        "depth": vit.depth,
        "num_heads": vit.heads,
        "mlp_ratio": ratio(vit.mlp_dim * (2 if swiglu else 1), vit.dim),
        "qkv_bias": block.qkv_bias,
        "qk_norm": block.qk_norm,
        "init_values": 0.0 if block.layer_scale is None else block.layer_scale or 1e-5,  # it takes 0 for "none"
        "class_token": vit.class_token,
        "no_embed_class": not vit.class_position,
        "reg_tokens": vit.registers,
        "pos_embed": "learn" if vit.positions == "learned" else "none",
        "pre_norm": vit.pre_norm,
        "final_norm": vit.final_norm or head.norm,
        "fc_norm": head.norm,
        "pool_include_prefix": False,
        **({} if swiglu else {"act_layer": block.mlp}),
    }
    settings = to_timm(model.preprocess) if model.preprocess else {"input_size": [vit.channels, *vit.image_size]}
    own = {"labels": model.labels} if model.outputs and not model.labels else {}
    own |= {"head_bias": False} if model.outputs and not head.bias else {}
    return {
        "architecture": architecture(model),
        "num_classes": model.outputs,
        "num_features": vit.dim,
        "global_pool": pool,
        **({"label_names": list(model.classes)} if model.labels and model.classes else {}),
        "model_args": args,
        "pretrained_cfg": {
            **settings,
            "fixed_input_size": True,
            "custom_load": False,
            "num_classes": model.outputs,
            "first_conv": first,
            "classifier": ["head", "head_dist"] if head.distilled else "head",
        },
        **({OWN: own} if own else {}),
    }


def ratio(hidden: int, dim: int) -> float:
    """What timm multiplies ``dim`` with, to come at ``hidden`` after rounding down."""
    found = hidden / dim
    while int(dim * found) < hidden:
        found = math.nextafter(found, math.inf)
    return found
