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

from trainings import (
    CLASSES,
    METHODS,
    MORE_METHODS,
    PLACES,
    TABLES,
    arguments,
    of_classes,
    of_method,
    of_places,
    of_table,
    without_model,
)
from work import Failed, Work, wait, wait_for

Case: TypeAlias = Callable[[Work], None]
CASES: dict[str, Case] = {}
START = Path("inputs/runs")  # run folders of the side that is compared with, for both sides
LOOKED_AT = "inputs/looked_at"


def case(name: str, function: Case) -> None:
    assert name not in CASES
    CASES[name] = function


# Training


def train(work: Work, verb: str, words: list[str], *, name: str = "", report: bool = False) -> Path:
    """Train; the run folder."""
    name = name or str(work.here.name)
    work.vitrail(verb, *words, "--name", name, *([] if report else ["--no-report"]))
    return Path("runs", name)


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
    words = without_model(arguments("classes.csv", init=START / "classification_registers", image_size=64))
    work.run("registers at 64", train(work, "train", words, name="tuned-registers"))
    words = without_model(arguments("classes.csv", init=START / "classification_relative", image_size=24))
    work.run("relative at 24", train(work, "train", words, name="tuned-relative"))
    words = without_model(
        arguments("classes.csv", init="inputs/foreign/hf_vit", image_size=40, freeze="vit.blocks.0.*")
    )
    work.run("hf_vit at 40", train(work, "train", words, name="tuned-hf"))
    words = arguments("scenes", **{**PLACES["detection"], "init": START / "mae", "image_size": 48})
    work.run("detection from mae", train(work, "train", words, name="tuned-detection"))
    words = without_model(arguments("scenes", **{**PLACES["segmentation"], "init": START / "mae"}))
    work.run("segmentation from mae", train(work, "train", words, name="tuned-segmentation"))


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
