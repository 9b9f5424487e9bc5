from __future__ import annotations

import importlib
import inspect
import shlex
from pathlib import Path

import pytest

from vitrail import registry
from vitrail.errors import UserError
from vitrail.terminal.next_command import IMAGE, name_next
from vitrail.terminal.settings import changes
from vitrail.terminal.training import RUNS, TrainingOptions, new_folder


def test_names_are_quoted_as_a_shell_takes_them(capsys):
    name_next("predict", Path("runs/two words"), IMAGE)
    out, err = capsys.readouterr()
    assert out == "", "results alone are on stdout"
    assert err == "next: vitrail predict 'runs/two words' IMAGE\n"
    assert shlex.split(err)[3:] == ["runs/two words", "IMAGE"]


def test_every_command_with_results_names_the_next_one():
    """find-rate says with which --lr to train; the others print text for a shell, or serve until they are stopped."""
    others = {"completion", "config", "find_rate", "help", "serve"}
    for name in set(registry.names("cli")) - others:
        code = inspect.getsource(importlib.import_module(f"vitrail.cli.{name}"))
        assert "name_next(" in code or "start(data, options)" in code, (
            f"vitrail {name} ends without saying what is next"
        )


def test_the_folder_of_a_run():
    assert new_folder("photos", TrainingOptions()) == RUNS / "photos"
    assert new_folder("photos", TrainingOptions(name="first")) == RUNS / "first"
    assert new_folder("photos", TrainingOptions(out=Path("/data/first"))) == Path("/data/first")
    with pytest.raises(UserError, match="give one of them"):
        new_folder("photos", TrainingOptions(out=Path("/data/first"), name="first"))


@pytest.mark.parametrize(("text", "size"), [("224", 224), ("224x320", [224, 320]), ("96X64", [96, 64])])
def test_an_image_size_has_one_side_or_two(text, size):
    assert changes(TrainingOptions(image_size=text)) == {"model.image_size": size, "data.preprocess.size": None}


@pytest.mark.parametrize("text", ["224x", "x", "1x2x3", "wide", "0x32", "224x-3"])
def test_anything_else_is_no_size(text):
    with pytest.raises(UserError, match="no size in pixels"):
        changes(TrainingOptions(image_size=text))
