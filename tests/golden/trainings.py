"""The trainings of the cases: the settings of each kind by name, and the words of their commands."""

from __future__ import annotations

from typing import Any

SIZE = {"--image-size": 32, "--workers": 0, "--precision": "fp32", "--device": "cpu", "--epochs": 4}
MODEL = {"dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64, "patch_size": 8}
DECODER = {"dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48, "num_queries": 8}
SCENES = {"task_options.decoder": DECODER, "task_options.threshold": 0.05}
CONV = {"model.embed": {"kind": "conv"}}
RESNET = {"model.embed": {"kind": "resnet", "layers": [1], "width": 32}, "model.patch_size": 8}


def arguments(data: str, settings: dict[str, Any] | None = None, **options: Any) -> list[str]:
    """Of ``vitrail train`` for a tiny model: one step an epoch, so that metrics.csv has the loss of every step."""
    scenes = "scenes" in data
    sets = {f"model.{key}": value for key, value in MODEL.items()}
    sets |= {"data.source.val_fraction": 0.25} | (settings or {})
    words = {**SIZE, "--batch-size": 12 if scenes else 24}
    words |= {f"--{key.replace('_', '-')}": value for key, value in options.items()}
    given = [f"inputs/{data}"]
    for word, value in words.items():
        given += [word] if value is True else [] if value is None else [word, str(value)]
    for key, value in sets.items():
        given += ["--set", f"{key}={_yaml(value)}"]
    return given


def _yaml(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {_yaml(part)}" for key, part in value.items()) + "}"
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )


def without_model(words: list[str]) -> list[str]:
    """The model is that of the weights."""
    kept: list[str] = []
    for word in words:
        if word.startswith("model."):
            kept.pop()
        else:
            kept.append(word)
    return kept


CLASSES: dict[str, dict[str, Any]] = {  # options and settings of trainings, by name
    "plain": {},
    "mixed": {
        "augment": "deit",
        "settings": {"data.augment.repeats": 1, "data.augment.mix.mixup": 0.8, "data.augment.mix.cutmix": 1.0},
    },
    "digits": {"augment": "digits"},
    "deit3": {"augment": "deit3", "settings": {"data.augment.repeats": 1, "task_options.loss": "bce"}},
    "small": {"augment": "small"},
    "ema": {"settings": {"ema": {"decay": 0.9}}},
    "accumulated": {"settings": {"accumulate": 3}},
    "decayed": {"settings": {"optimizer.layer_decay": 0.7, "optimizer.backbone_lr": 0.5}},
    "frozen": {"freeze": "vit.embed.*"},
    "frozen_backbone": {"freeze": "backbone"},
    "many_steps": {"batch_size": 8, "settings": {"save_steps": 2, "clip": 0.1}},
    "workers": {"workers": 2},
    "bf16": {"precision": "bf16"},
    "sgd": {"settings": {"optimizer.name": "sgd", "optimizer.nesterov": True}},
    "lamb": {"settings": {"optimizer.name": "lamb", "schedule.name": "linear", "optimizer.final_weight_decay": 0.5}},
    "smoothed": {"settings": {"task_options.label_smoothing": 0.1, "task_options.pool": "mean"}},
    "registers": {
        "settings": {
            "model.registers": 2, "model.positions": "rope_2d", "model.block.mlp": "swiglu",
            "model.block.layer_scale": 0.1, "model.block.qk_norm": True, "model.block.drop_path": 0.2,
        }
    },
    "relative": {"settings": {"model.positions": "relative", "model.block.dropout": 0.1, "task_options.pool": "mean"}},
    "post_norm": {"settings": {"model.block.order": "post", "model.final_norm": False, "model.positions": "sincos_1d"}},
    "attention_pool": {"settings": {"task_options.pool": "attention", "model.class_token": False}},
    "conv": {"settings": {**CONV, "model.positions": "sincos_2d", "task_options.head": {"hidden": 24}}},
    "resnet": {"settings": RESNET},
    "padded": {"settings": {"data.preprocess.resize": "pad"}},
    "distillation_token": {
        "settings": {
            "model.distillation_token": True, "task_options.pool": "cls_distillation",
            "task_options.head": {"distilled": True},
        }
    },
}  # fmt: skip
PLACES: dict[str, dict[str, Any]] = {
    "detection": {"task": "detection", "settings": SCENES},
    "detection_padded": {"task": "detection", "settings": {**SCENES, "data.preprocess.resize": "pad"}},
    "detection_large": {"task": "detection", "augment": "large", "settings": SCENES},
    "detection_h": {
        "task": "detection",
        "augment": "any_side",
        "settings": {
            **SCENES, "task_options.denoising": None, "task_options.one_to_many": {"num_queries": 12, "repeats": 3},
            "task_options.class_loss": "softmax", "task_options.proposals": False, "task_options.dense": None,
        },
    },
    "detection_windows": {
        "task": "detection",
        "augment": "none",
        "settings": {
            **SCENES, **CONV, "task_options.window": {"size": 2, "num_global": 1},
            "task_options.scales": ["2", "1", "1/2"],
            "model.class_token": False, "model.positions": "sincos_2d",
        },
    },
    "instances": {"task": "instances", "settings": {**SCENES, "task_options.masks": {"stride": 4, "dim": 16}}},
    "instances_padded": {
        "task": "instances",
        "settings": {
            **SCENES, "task_options.masks": {"stride": 4, "dim": 16}, "data.preprocess.resize": "pad",
            "task_options.window": {"size": 2, "num_global": 1},
        },
    },
    "segmentation": {"task": "segmentation"},
    "segmentation_padded": {
        "task": "segmentation",
        "settings": {"data.preprocess.resize": "pad", "task_options.window": {"size": 2, "num_global": 1}},
    },
    "segmentation_multilevel": {
        "task": "segmentation",
        "settings": {"task_options.decoder": "multilevel", "task_options.hidden": 16, "model.depth": 4},
    },
    "segmentation_transunet": {
        "task": "segmentation",
        "settings": {
            "task_options.decoder": "transunet", "task_options.hidden": 16,
            "model.embed": {"kind": "resnet", "layers": [1, 1], "width": 32}, "model.patch_size": 8,
        },
    },
    "segmentation_detail": {
        "task": "segmentation",
        "settings": {
            "task_options.decoder": "detail", "task_options.hidden": 16, "task_options.subpixel": 2,
            "task_options.coarse": 0.3, "task_options.dice": 0.2,
        },
    },
}  # fmt: skip
HEAD = {"task_options.hidden_dim": 32, "task_options.num_prototypes": 48, "task_options.bottleneck_dim": 16}
PAIR = {"task_options.hidden_dim": 32, "task_options.output_dim": 16}
METHODS: dict[str, dict[str, Any]] = {
    "mae": {
        "task_options": {"decoder_dim": 24, "decoder_depth": 1, "decoder_heads": 2, "decoder_mlp_dim": 48},
        "model.positions": "sincos_2d",
    },
    "simmim": {"task_options.mask_size": 8},
    "masked_patch": {},
    "colorize": {},
    "rotation": {},
    "dino": HEAD,
    "ibot": HEAD,
    "simclr": PAIR,
    "moco_v3": PAIR,
}
MORE_METHODS: dict[str, tuple[str, dict[str, Any]]] = {
    "ibot_two_heads": ("ibot", {**HEAD, "task_options.share_head": False, "task_options.mask": "random"}),
    "colorize_regression": ("colorize", {"task_options.target": "regression"}),
    "rotation_one": ("rotation", {"task_options.all_rotations": False}),
    "mae_pixels": ("mae", {**METHODS["mae"], "task_options.normalise": False, "accumulate": 2}),
    "dino_accumulated": ("dino", {**HEAD, "accumulate": 2, "ema": {"decay": 0.9}}),
}
TABLES = {"multilabel": "multilabel.csv", "regression": "regression.csv"}
SMALLER_CROPS = {"data.views.2.scale": 0.5, "data.views.2.count": 2, "data.views.2.multiple": 8}


def of_classes(name: str) -> list[str]:
    return arguments("classes.csv", **CLASSES[name])


def of_places(name: str) -> list[str]:
    return arguments("scenes", **PLACES[name])


def of_table(name: str, **settings: Any) -> list[str]:
    mixed = {"data.augment.mix": {"mixup": 0.4}} | settings
    return arguments(TABLES[name], mixed, task=name)


def of_method(method: str, settings: dict[str, Any]) -> list[str]:
    crops = SMALLER_CROPS if method in ("dino", "ibot") else {}
    return arguments("classes.csv", {**settings, **crops}, method=method)
