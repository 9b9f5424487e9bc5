from __future__ import annotations

import warnings

import numpy as np
import pytest
from PIL import Image

from vitrail import fonts
from vitrail.predictions.pictures import draw_caption


@pytest.fixture
def only_matplotlibs_own(monkeypatch):
    """As on a machine without fonts of its own; nothing has been warned of."""
    installed = {name: files for name, files in fonts._installed().items() if name == "DejaVu Sans"}
    monkeypatch.setattr(fonts, "_installed", lambda: installed)
    monkeypatch.setattr(fonts, "_missing", set())
    fonts._covering.cache_clear()
    yield
    fonts._covering.cache_clear()


@fonts.named_missing()
def warn_while_drawing():
    warnings.warn("another", stacklevel=1)


def caption(text):
    return np.asarray(draw_caption(Image.new("RGB", (224, 10)), [text]))


def test_latin_text_is_in_pillows_own_font():
    assert fonts.pillow(14, "Küche").getname() == fonts.pillow(14, "cat").getname()


@pytest.mark.parametrize(("one", "other"), [("кошка", "щенок"), ("γάτα", "σκύλ")])
def test_letters_beyond_latin_are_not_boxes(one, other):
    """Boxes would look the same, whatever the word."""
    assert (caption(one) != caption(other)).any()


def test_chinese_is_not_boxes(capsys):
    if not set(fonts.CJK) & set(fonts.families()):
        pytest.skip("no font with Chinese characters is installed")
    assert (caption("猫") != caption("狗")).any()
    assert capsys.readouterr().err == ""


def test_a_missing_font_is_said_once(only_matplotlibs_own, capsys):
    caption("猫狗")
    caption("猫狗")
    err = capsys.readouterr().err
    assert err.count("warning: no font on this machine shows '狗猫'") == 1
    assert "Noto Sans CJK" in err


def test_matplotlibs_missing_glyphs_are_said_and_other_warnings_stay(monkeypatch, capsys):
    from matplotlib.figure import Figure

    monkeypatch.setattr(fonts, "_missing", set())
    figure = Figure()
    figure.suptitle("猫", fontfamily="DejaVu Sans")
    with fonts.named_missing():
        figure.savefig("/dev/null", format="png")
    assert "no font on this machine shows '猫'" in capsys.readouterr().err
    with pytest.warns(UserWarning, match="another"):
        warn_while_drawing()
