from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import pytest

from vitrail.cli.pretrain import PretrainOptions
from vitrail.cli.train import TrainOptions
from vitrail.config import override, parse_assignments
from vitrail.data import DataConfig, SourceConfig
from vitrail.errors import UserError
from vitrail.terminal.settings import Sets, changes, metadata
from vitrail.train.run import Run

RUN = Run(data=DataConfig(source=SourceConfig(spec="photos")))
OPTIONS = {name: sets for options in (TrainOptions, PretrainOptions) for name, sets in metadata(options).items()}
STATS = Path(tempfile.mkdtemp()) / "stats.json"
STATS.write_text('{"train": {"mean": [0.4, 0.5, 0.6], "std": [0.2, 0.2, 0.2]}}')
VALUES = {
    "names": "table.yaml",
    "image_size": 16,
    "channels": 1,
    "epochs": 7,
    "batch_size": 9,
    "lr": 0.5,
    "augment": "light",
    "precision": "bf16",
    "device": "cpu",
    "workers": 3,
    "seed": 5,
    "on_bad": "skip",
    "encoding": "cp1252",
    "value_range": "0:4095",
    "page": 2,
    "normalize": STATS,
    "log": ("tensorboard",),
    "download": True,
    "task": "multilabel",
    "distill": "runs/teacher",
    "distill_kind": "soft",
    "distill_token": True,
    "allow_pickle": True,
    "lora": 4,
    "freeze": ("backbone",),
    "tile": "64x96",
    "overlap": 0.3,
    "scale": "3",
    "balance": "weights",
    "exclude": "left-out.csv",
    "group_column": "patient",
    "time_column": "day",
    "folds": 5,
    "fold": 2,
    "monitor": "auroc",
    "patience": 2,
}


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_changes_settings_that_a_run_has(option):
    """``override`` raises for a path that a run does not have."""
    sets = OPTIONS[option]
    assert sets.paths or sets.fixed
    changed = sets.changes(VALUES[option])
    assert all(f"{path}.".startswith(tuple(f"{own}." for own in (*sets.paths, *sets.fixed))) for path in changed)
    needed = {"distill.teacher": "runs/teacher"} if "distill" in option else {}
    needed |= {"data.preprocess.tiles.size": [64, 96]} if option == "overlap" else {}
    run = override(RUN, {**needed, **changed})
    assert run != RUN


def test_every_option_of_the_table_is_tested():
    assert OPTIONS.keys() == VALUES.keys()


def test_only_given_options_change_settings():
    assert changes(TrainOptions()) == {}
    assert changes(TrainOptions(workers=0, seed=0, name="x", model="Ti/16")) == {"data.loader.workers": 0, "seed": 0}


def test_fixed_values_and_those_of_a_resolver():
    @dataclass(frozen=True)
    class Options:
        rate: Annotated[float | None, Sets("a.b", "c", fixed={"d": None})] = None
        name: Annotated[str | None, Sets("e", "f", resolve=lambda name: {name: 1})] = None
        other: int = 3

    assert changes(Options(rate=0.5, name="f")) == {"a.b": 0.5, "c": 0.5, "d": None, "f": 1}


def test_a_preset_changes_the_settings_that_have_it():
    assert changes(TrainOptions(augment="deit")) == {"data.augment": "deit"}
    assert changes(TrainOptions(augment="large")) == {"data.scenes": "large"}
    assert changes(TrainOptions(augment="{horizontal_flip: 0.5}")) == {"data.augment": {"horizontal_flip": 0.5}}
    with pytest.raises(UserError, match="unknown augmentation 'lihgt'; did you mean 'light'"):
        changes(TrainOptions(augment="lihgt"))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (TrainOptions(epochs=0), "epochs=0"),
        (TrainOptions(task="no", seed=-1), "seed=-1"),
        (TrainOptions(image_size=0), "model.image_size=0"),
        (TrainOptions(distill_kind="soft"), "distill.kind=soft"),
    ],
)
def test_a_wrong_value_reads_as_with_set(options, text):
    messages = []
    for changed in (changes(options), parse_assignments([text])):
        with pytest.raises(UserError) as caught:
            override(RUN, changed)
        assert "\n" not in str(caught.value)
        messages.append(str(caught.value))
    assert messages[0] == messages[1]
