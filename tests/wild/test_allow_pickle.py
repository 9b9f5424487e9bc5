"""mlfoundations/open_clip#998, facebookresearch/dinov2#154: ``train --init x.pth --allow-pickle`` said "pass
--allow-pickle".

The flag means every file that a verb opens. Siblings looked at: pretraining, ``vitrail.fit``, a teacher, resuming (a
run folder cannot allow it), averages, adapters, uploads, and every verb with a parameter of weights.
"""

from __future__ import annotations

import dataclasses
import inspect
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
import torch
from small_vits import timm_vit

from vitrail import registry
from vitrail.cli.pretrain import PretrainOptions
from vitrail.cli.train import TrainOptions
from vitrail.config import override
from vitrail.data import DataConfig, SourceConfig
from vitrail.errors import UserError
from vitrail.tasks import classification
from vitrail.terminal.options import Weights
from vitrail.terminal.settings import changes
from vitrail.train.folder import RunFolder
from vitrail.train.init_weights import initialise_from
from vitrail.train.run import Run
from vitrail.vit import ViTConfig

RUN = Run(data=DataConfig(source=SourceConfig(spec="photos")))


@pytest.mark.usefixtures("forked_python")
def test_init(tmp_path: Path) -> None:
    torch.save(timm_vit(depth=1).state_dict(), tmp_path / "x.pth")
    model = ViTConfig(image_size=32, dim=192, depth=1, heads=3, resampling="bicubic_antialias")
    task = classification.Task(classification.Config(model=model, classes=("a", "b")))
    with pytest.raises(UserError, match="pass --allow-pickle"):
        initialise_from(task, str(tmp_path / "x.pth"))
    initialise_from(task, str(tmp_path / "x.pth"), allow_pickle=True)


@pytest.mark.parametrize("options", [TrainOptions, PretrainOptions])
def test_one_flag_for_every_file_of_a_training(options: type) -> None:
    run = override(RUN, changes(options(allow_pickle=True)))
    assert run.allow_pickle
    taught = override(run, {"distill.teacher": "teacher.pt2"})
    assert taught.teacher is not None
    assert taught.teacher.allow_pickle
    assert override(RUN, {"distill.teacher": "teacher.pt2"}).teacher == dataclasses.replace(
        taught.teacher, allow_pickle=False
    )


def test_a_run_folder_cannot_allow_it(tmp_path: Path) -> None:
    from vitrail import config

    folder = RunFolder(tmp_path)
    config.save(
        override(RUN, {"allow_pickle": True, "distill.teacher": "x", "distill.allow_pickle": True}), folder.config
    )
    run = folder.run()
    assert not run.allow_pickle
    assert run.teacher is not None
    assert not run.teacher.allow_pickle


def test_every_verb_with_weights_has_the_flag() -> None:
    def fields(annotation: Any) -> set[str]:
        plain = get_args(annotation)[0] if get_args(annotation) else annotation
        return set(getattr(plain, "__dataclass_fields__", ()))

    lacking = []
    for name in registry.names("cli"):
        verb = getattr(registry.load("cli", name), name.rstrip("_"), None)
        if not inspect.isfunction(verb):
            continue
        hints = get_type_hints(verb, include_extras=True)
        takes = Weights in hints.values() or "init" in set().union(*(fields(each) for each in hints.values()))
        if takes and "allow_pickle" not in hints.keys() | set().union(*(fields(each) for each in hints.values())):
            lacking.append(name)
    assert not lacking
