"""What is computed on both sides: a case is a function of a :class:`work.Work`, by name.

All go through the command line, the files that it writes, and ``vitrail.load`` and its neighbours: what stays when the
code inside changes.
"""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

from work import Failed, Work, wait, wait_for

Case: TypeAlias = Callable[[Work], None]
CASES: dict[str, Case] = {}
START = Path("inputs/runs")  # run folders of the side that is compared with, for both sides
LOOKED_AT = "inputs/looked_at"
SIZE = {"--image-size": 32, "--workers": 0, "--precision": "fp32", "--device": "cpu", "--epochs": 4}
MODEL = {"dim": 32, "depth": 2, "heads": 2, "mlp_dim": 64, "patch_size": 8}
DECODER = {"dim": 32, "depth": 2, "heads": 2, "mlp_dim": 48, "num_queries": 8}
SCENES = {"task_options.decoder": DECODER, "task_options.threshold": 0.05}
CONV = {"model.embed": {"kind": "conv"}}
RESNET = {"model.embed": {"kind": "resnet", "layers": [1], "width": 32}, "model.patch_size": 8}


def case(name: str, function: Case) -> None:
    assert name not in CASES
    CASES[name] = function


# Training


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


def train(work: Work, verb: str, words: list[str], *, name: str = "", report: bool = False) -> Path:
    """Train; the run folder."""
    name = name or str(work.here.name)
    work.vitrail(verb, *words, "--name", name, *([] if report else ["--no-report"]))
    return Path("runs", name)


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
            "task_options.class_loss": "softmax", "task_options.proposals": False,
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


def trained(verb: str, words: list[str]) -> Case:
    def run(work: Work) -> None:
        work.run("run", train(work, verb, words))

    return run


for _name in CLASSES:
    case(f"train/classification/{_name}", trained("train", of_classes(_name)))
for _name in TABLES:
    case(f"train/{_name}", trained("train", of_table(_name)))
for _name in PLACES:
    case(f"train/{_name}", trained("train", of_places(_name)))
for _name, _settings in METHODS.items():
    case(f"pretrain/{_name}", trained("pretrain", of_method(_name, _settings)))
for _name, (_method, _settings) in MORE_METHODS.items():
    case(f"pretrain/{_name}", trained("pretrain", of_method(_method, _settings)))


# The same from weights that both sides have in common: however the first weights are drawn.

STARTS: dict[str, tuple[str, list[str]]] = {
    "classification": ("train", of_classes("plain")),
    "classification_padded": ("train", of_classes("padded")),
    "classification_distilled": ("train", of_classes("distillation_token")),
    "classification_registers": ("train", of_classes("registers")),
    "classification_relative": ("train", of_classes("relative")),
    "classification_resnet": ("train", of_classes("resnet")),
    "multilabel": ("train", of_table("multilabel")),
    "multilabel_padded": ("train", of_table("multilabel", **{"data.preprocess.resize": "pad"})),
    "regression": ("train", of_table("regression")),
    "regression_padded": ("train", of_table("regression", **{"data.preprocess.resize": "pad"})),
    **{name: ("train", of_places(name)) for name in PLACES},
    **{name: ("pretrain", of_method(name, settings)) for name, settings in METHODS.items()},
}
DEFINED = ("classification", "multilabel", "regression", "detection", "instances", "segmentation")


def prepare(work: Work) -> None:
    """The run folders that both sides start from, with the side that is compared with. Not a case."""
    for name, (verb, words) in STARTS.items():
        short = [*words]
        short[short.index("--epochs") + 1] = "2"
        shutil.move(train(work, verb, short, name=f"start-{name}"), START / name)
    for name, source in (("google", "timm_vit_tanh"), ("dinov2", "hf_dinov2_swiglu")):
        if source == "timm_vit_tanh":
            words = arguments("classes.csv", {"model.block.mlp": "gelu_tanh"})
            source_path = train(work, "train", words, name="start-tanh")
        else:
            source_path = Path("inputs/foreign", source)
        work.vitrail("convert", source_path, f"inputs/foreign/{name}", "--to", name)


def continued(name: str) -> Case:
    """Longer than the side that began it, with its optimizer's state."""

    def run(work: Work) -> None:
        folder = Path("runs", work.here.name)
        shutil.copytree(START / name, folder)
        work.vitrail(STARTS[name][0], "--resume", folder, "--epochs", 4, "--workers", 0, "--no-report")
        work.run("run", folder)

    return run


def begun_from(name: str) -> Case:
    """A new training from the last weights of that side."""

    def run(work: Work) -> None:
        verb, words = STARTS[name]
        work.run("run", train(work, verb, [*words, "--init", str(START / name / "weights/last.safetensors")]))

    return run


for _name in STARTS:
    case(f"resume/{_name}", continued(_name))
    case(f"init/{_name}", begun_from(_name))


def _tuned(work: Work) -> None:
    """Pretrained weights, then labels, at another size of images."""
    words = arguments("classes.csv", {"optimizer.layer_decay": 0.75}, init=START / "mae", image_size=48)
    work.run("mae at 48", train(work, "train", words, name="tuned-mae"))
    words = _without_model(arguments("classes.csv", init=START / "classification_registers", image_size=64))
    work.run("registers at 64", train(work, "train", words, name="tuned-registers"))
    words = _without_model(arguments("classes.csv", init=START / "classification_relative", image_size=24))
    work.run("relative at 24", train(work, "train", words, name="tuned-relative"))
    words = _without_model(
        arguments("classes.csv", init="inputs/foreign/hf_vit", image_size=40, freeze="vit.blocks.0.*")
    )
    work.run("hf_vit at 40", train(work, "train", words, name="tuned-hf"))
    words = arguments("scenes", **{**PLACES["detection"], "init": START / "mae", "image_size": 48})
    work.run("detection from mae", train(work, "train", words, name="tuned-detection"))
    words = _without_model(arguments("scenes", **{**PLACES["segmentation"], "init": START / "mae"}))
    work.run("segmentation from mae", train(work, "train", words, name="tuned-segmentation"))


def _without_model(words: list[str]) -> list[str]:
    """The model is that of the weights."""
    kept: list[str] = []
    for word in words:
        if word.startswith("model."):
            kept.pop()
        else:
            kept.append(word)
    return kept


def _distilled(work: Work) -> None:
    """Every kind of teaching, by models of several kinds, with and without the token."""
    teacher = START / "classification"
    for name, words in {
        "hard": arguments("classes.csv", distill=teacher, distill_kind="hard"),
        "hard token": arguments("classes.csv", distill=teacher, distill_token=True),
        "soft": arguments("classes.csv", {"distill.weight": 0.8}, distill=teacher, distill_kind="soft"),
        "soft token": arguments(
            "classes.csv", {"ema": {"decay": 0.9}}, distill=teacher, distill_kind="soft", distill_token=True
        ),
        "features": arguments("classes.csv", distill=START / "dino", distill_kind="features"),
        "pooled features": arguments(
            "classes.csv",
            {"distill.options": {"of": "pooled"}},
            distill="inputs/foreign/hf_clip",
            distill_kind="features",
        ),
        "larger images": arguments("classes.csv", distill="inputs/foreign/timm_hybrid", distill_kind="features"),
        "accumulated": arguments("classes.csv", {"accumulate": 2}, distill=teacher),
        "from the same start": arguments("classes.csv", distill=teacher, init=START / "classification_registers"),
        "token from the same start": arguments(
            "classes.csv", distill=teacher, distill_token=True, init=START / "classification_distilled"
        ),
    }.items():
        work.run(name, train(work, "train", words, name="distilled-" + name.replace(" ", "-")))


def _two_processes(strategy: str) -> Case:
    def run(work: Work) -> None:
        settings = {"strategy": strategy, "ema": {"decay": 0.9}}
        words = arguments("classes.csv", settings, processes=2, augment="deit")
        words += ["--set", "data.augment.repeats=1"]
        work.run("run", train(work, "train", words))

    return run


def _two_processes_of_places(work: Work) -> None:
    words = [*of_places("detection"), "--processes", "2"]
    work.run("run", train(work, "train", words))


def _interrupted(work: Work) -> None:
    """SIGTERM at whatever step, then on to the same end."""
    words = [*arguments("classes.csv", {"ema": {"decay": 0.9}}, batch_size=8, epochs=10), "--no-report"]
    work.vitrail("train", *words, "--name", "uninterrupted")
    work.run("uninterrupted", Path("runs/uninterrupted"))
    folder = Path("runs/interrupted")
    process = work.start("train", *words, "--name", folder.name)
    wait_for(lambda: (folder / "metrics.csv").exists(), process)
    os.kill(process, signal.SIGTERM)
    if (status := wait(process)) not in (0, 143):
        raise Failed(f"after SIGTERM the exit status is {status}")
    if status:
        work.vitrail("train", "--resume", folder, "--workers", 0, "--no-report")
    work.run("interrupted", folder)
    ours = {name.split(" ", 1)[1]: text for name, text in work.items.items() if name.startswith("interrupted")}
    theirs = {name.split(" ", 1)[1]: text for name, text in work.items.items() if name.startswith("uninterrupted")}
    work.record("equal", ours == theirs)


def _extended(work: Work) -> None:
    """Stopped at a saved state in the middle of an epoch is what a killed run has; this one ended and goes on."""
    for name in ("mae", "dino", "moco_v3"):
        words = of_method(name, METHODS[name])
        folder = train(work, "pretrain", words, name=f"extended-{name}")
        work.vitrail("pretrain", "--resume", folder, "--epochs", 6, "--no-report")
        work.run(name, folder)


def _reported(name: str) -> Case:
    """With a report: the summary has what was measured on held-out images."""

    def run(work: Work) -> None:
        folder = Path("runs", work.here.name)
        shutil.copytree(START / name, folder)
        work.vitrail("report", folder, "--device", "cpu")
        for path in sorted(folder.glob("evaluation/*.json")):
            work.record(path.stem, _read(path))
        for path in sorted(folder.glob("evaluation/*.csv")):
            work.table(f"{path.stem}.csv", path)
        work.record("report", (folder / "report.html").exists())

    return run


def _whole(work: Work) -> None:
    """From training to report in one command, as the recipe of the embedded digits has it."""
    words = ["--recipe", "digits", "--epochs", "1", "--precision", "fp32", "--device", "cpu", "--workers", "0"]
    folder = train(work, "train", words, report=True)
    work.run("run", folder, state=False)


def _folder(work: Work) -> None:
    """A folder a class. Its hash is of the names, which are absolute."""
    work.run("run", train(work, "train", arguments("photos")))
    del work.items["run data.sha256"]


def _read(path: Path) -> Any:
    import json

    return json.loads(path.read_text())


case("train/folder", _folder)
case("tune", _tuned)
case("distill", _distilled)
case("two processes/ddp", _two_processes("ddp"))
case("two processes/fsdp", _two_processes("fsdp"))
case("two processes/detection", _two_processes_of_places)
case("resume/interrupted", _interrupted)
case("resume/extended", _extended)
case("recipe", _whole)
for _name in (*DEFINED, "mae", "dino", "colorize"):
    case(f"report/{_name}", _reported(_name))
