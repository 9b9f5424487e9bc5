from __future__ import annotations

import io
import os
import re
from contextlib import redirect_stderr

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vitrail import console


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@given(st.binary(max_size=40))
def test_any_file_name_prints_on_one_line_of_ascii_safe_text(raw):
    shown = console.printable(os.fsdecode(raw))
    assert shown.isprintable()
    shown.encode("utf-8")


@given(st.text(st.characters(categories=["Cs", "Cc", "L", "Zl", "Zp"])))
def test_any_text_prints_even_lone_surrogates(text):
    assert console.printable(text).isprintable()


def test_escapes_are_the_bytes_that_were_there():
    assert console.printable(os.fsdecode(b"caf\xe9\n.jpg")) == r"caf\xe9\n.jpg"
    assert console.printable("图片 ✓ é") == "图片 ✓ é"


def test_notes_go_to_stderr_on_one_line(capsys):
    console.warn("a\nb")
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "warning: a\\nb\n"


def test_table_aligns_numbers_right_and_words_left():
    assert console.table(["name", "size"], [["a", 5], ["long", "1,234"]]) == ("name   size\na         5\nlong  1,234")


def test_table_counts_wide_characters_as_two_cells():
    lines = console.table(["类", "n"], [["猫", "x"], ["ab", "y"]]).splitlines()
    assert lines == ["类  n", "猫  x", "ab  y"]


def test_a_table_fits_a_narrow_terminal(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setenv("COLUMNS", "32")
    rows = [["a", "75.5%", "hub/" + "x" * 20], ["b", "9%", "here 类"]]
    assert console.table(["name", "top-1 accuracy", "where"], rows).splitlines() == [
        "name         top-1  where",
        "          accuracy",
        "a            75.5%  hub/xxxxxxxx",
        "                    xxxxxxxxxxxx",
        "b               9%  here 类",
    ]
    monkeypatch.setenv("COLUMNS", "5")  # numbers and words of headings stay whole
    assert "accuracy" in console.table(["top-1 accuracy"], [["75.5%"]])


def test_a_table_of_nothing_is_its_header():
    assert console.table(["a", "b"], []) == "a  b"


def test_a_row_of_another_length_is_our_bug():
    with pytest.raises(ValueError):
        console.table(["a"], [["x", "y"]])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0 s"), (59.4, "59 s"), (59.6, "1 min 00 s"), (75, "1 min 15 s"), (3660, "1 h 01 min")],
)
def test_duration(seconds, text):
    assert console.duration(seconds) == text


def test_progress_without_a_terminal_is_lines_at_a_bounded_rate(capsys, monkeypatch):
    clock = iter(range(0, 1000, 4))
    monkeypatch.setattr(console.time, "monotonic", lambda: float(next(clock)))
    with console.Progress("train", total=10) as progress:
        for _ in range(10):
            progress.advance(loss=0.51234)
    lines = capsys.readouterr().err.splitlines()
    assert 2 <= len(lines) <= 4  # 40 seconds, one line in 10
    assert lines[0].startswith("train 3/10")
    assert "loss 0.5123" in lines[0]
    assert "left" in lines[0]


def test_progress_on_a_terminal_is_a_bar_and_notes_go_above_it(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    with console.Progress("train", total=2) as progress:
        progress.advance(loss=0.5)
        console.note("device auto: cpu [bold]")
    assert "device auto: cpu [bold]\n" in terminal.getvalue()
    assert "train" in terminal.getvalue()
    console.note("afterwards")
    assert terminal.getvalue().endswith("afterwards\n")


def test_disabled_progress_says_nothing(capsys):
    assert list(console.track(range(3), "count", enabled=False)) == [0, 1, 2]
    assert capsys.readouterr().err == ""


def test_track_counts_what_has_no_length(capsys):
    assert sum(console.track(iter(range(4)), "count")) == 6


SHOWN = {"loss": 0.51234, "rate": 1e-3, "images/s": 123.4, "left": "3 min 20 s"}


@pytest.mark.parametrize("width", [60, 80, 120])
def test_a_bar_fits_and_keeps_the_time_left_and_the_loss(width):
    label, done, rest, text = console.bar_parts("epoch 12/100", 1234, 5000, "1 min 00 s", SHOWN, width)
    assert len(label) + done + rest + len(text) <= width
    assert "3 min 20 s left" in text, "that of the whole training"
    assert "loss 0.5123" in text
    assert done + rest >= console.SHORTEST_BAR or "rate" not in text
    assert ("images/s" in text) == (width == 120)


def test_a_bar_is_filled_in_proportion():
    _, done, rest, text = console.bar_parts("x", 1, 4, "", {}, 200)
    assert (done, rest, text) == (10, 30, "  1/4")
    assert console.bar_parts("x", 7, None, "", {}, 200) == ("x ", 0, 0, " 7")
    assert console.bar_parts("x", 9, 4, "", {}, 200)[2] == 0


def test_a_bar_of_sixty_columns_is_one_line(monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "60")
    with console.Progress("epoch 12/100", total=5000) as progress:
        progress.advance(1234, **SHOWN)
    lines = re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", terminal.getvalue()).replace("\r", "\n").splitlines()
    last = next(line for line in reversed(lines) if "loss" in line)
    assert "3 min 20 s left" in last
    assert len(last.rstrip()) <= 60


def test_plain_lines_name_the_time_left_once(monkeypatch, capsys):
    monkeypatch.setattr(console, "PLAIN_INTERVAL", 0.0)
    with console.Progress("epoch 1/2", total=8) as progress:
        progress.advance(2, **SHOWN)
    assert capsys.readouterr().err == "epoch 1/2 2/8  3 min 20 s left  loss 0.5123  rate 0.001  images/s 123.4\n"


def test_a_notebook_has_one_line_that_changes(monkeypatch, capsys):
    shown = []

    class Handle:
        def update(self, data, raw):
            shown.append(data["text/plain"])

    def display(data, raw, display_id):
        shown.append(data["text/plain"])
        return Handle()

    monkeypatch.setattr(console, "_notebook", lambda: display)
    with console.Progress("train", total=3) as progress:
        for _ in range(3):
            progress.advance(loss=0.5)
    assert shown[0] == "train"
    assert shown[-1].startswith("train ━")
    assert shown[-1].endswith("3/3  0 s left  loss 0.5")
    assert capsys.readouterr().err == ""


def test_a_command_prints_a_note_once(capsys):
    with console.each_note_once():
        console.note("device auto: cpu")
        console.note("device auto: cpu")
        console.warn("device auto: cpu")
        with redirect_stderr(io.StringIO()):
            console.note("where nobody reads it")
        console.note("where nobody reads it")
    console.note("device auto: cpu")
    assert capsys.readouterr().err.splitlines() == [
        "device auto: cpu", "warning: device auto: cpu", "where nobody reads it", "device auto: cpu",
    ]  # fmt: skip


def test_a_table_in_html_is_escaped():
    assert console.html_table(["a"], [["<b>"]]) == (
        "<table><thead><tr><th>a</th></tr></thead><tbody><tr><td>&lt;b&gt;</td></tr></tbody></table>"
    )


@pytest.mark.parametrize("seconds", [float("nan"), float("inf")])
def test_no_duration_is_unknown(seconds):
    assert console.duration(seconds) == "unknown"
