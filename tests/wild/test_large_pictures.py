"""A photo of more pixels than are allowed (webknossos-libs#892: no option, "repair or remove it").

Siblings looked at: check, training, prediction alone and in a folder, the variable that processes inherit, the server's
own option, and what a wrong value gives.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from wild_files import TINY_RUN, draw, png

from vitrail.cli import main
from vitrail.data.media.decode import TooManyPixels, decode
from vitrail.data.media.limits import PIXELS
from vitrail.errors import UserError
from vitrail.terminal.options import MAX_PIXELS_VARIABLE


def test_the_message_names_the_option(monkeypatch) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "79")
    with pytest.raises(TooManyPixels) as caught:
        decode(png(0))
    assert "more than the limit of 79" in str(caught.value)
    named = str(caught.value.named("a.png"))
    assert "(VITRAIL_MAX_PIXELS)" in named
    assert "--max-pixels 80" in named
    assert "repair" not in named
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "80")
    assert decode(png(0)).size == (10, 8)


def test_the_variable(monkeypatch) -> None:
    monkeypatch.delenv(MAX_PIXELS_VARIABLE, raising=False)
    assert PIXELS.value == 50_000_000
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "many")
    with pytest.raises(UserError, match="is no limit"):
        _ = PIXELS.value


def test_the_option_of_verbs(tmp_path: Path, monkeypatch, capsys, tiny_predictor) -> None:
    monkeypatch.setenv(MAX_PIXELS_VARIABLE, "1")
    folder = draw(tmp_path / "p", "ant/1.png", "ant/2.png", "bee/3.png", "bee/4.png")
    allowed = ("--max-pixels", "1000")
    assert main(["data", "check", str(folder)]) == 2
    assert main(["data", "check", str(folder), *allowed]) == 0
    assert main(["data", "stats", str(folder), *allowed]) == 0
    assert main(["train", str(folder), *TINY_RUN, "--out", str(tmp_path / "no")]) == 2
    assert main(["train", str(folder), *TINY_RUN, *allowed, "--out", str(tmp_path / "run")]) == 0
    tiny_predictor().save(weights := tmp_path / "w.safetensors")
    picture = str(folder / "ant" / "1.png")
    assert main(["predict", str(weights), picture]) == 2
    assert main(["predict", str(weights), picture, *allowed]) == 0
    assert os.environ[MAX_PIXELS_VARIABLE] == "1"  # a command's own ends with it
    assert "--max-pixels 80" in capsys.readouterr().err
