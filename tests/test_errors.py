from __future__ import annotations

import pickle

import pytest

from vitrail.data.annotations import BadAnnotations, Flaw
from vitrail.data.inspection.check import Finding, Report
from vitrail.data.media.decode import BadImage
from vitrail.errors import MissingArgument, UserError, did_you_mean


@pytest.mark.parametrize("written", ["classificaton", "CLASSIFICATION", "clasification"])
def test_a_near_miss_is_named(written):
    assert did_you_mean(written, ["classification", "regression"]) == "did you mean 'classification'?"


def test_a_far_miss_lists_all():
    assert did_you_mean("zebra", ["attention", "rollout"]) == "choose one of: attention, rollout"


def test_a_long_list_is_cut():
    hint = did_you_mean("zebra", [str(number) for number in range(1000)])
    assert hint.startswith("choose one of: 0, 1, ")
    assert hint.endswith(", 19, …")


def test_nothing_to_choose_from():
    assert did_you_mean("x", []) == "there is nothing to choose from"


def test_the_hint_keeps_the_case_of_the_allowed_name():
    assert did_you_mean("s/16", ["S/16", "B/16"]) == "did you mean 'S/16'?"


def test_user_error_is_a_value_error():
    with pytest.raises(ValueError, match="what to do"):
        raise UserError("what was wrong; what to do")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\nb\r\x1b[31m", r"a\nb\r\x1b[31m"),
        ("gpj\u202etxe", r"gpj\u202etxe"),
        ("a\u2028b\u2029\x85", r"a\u2028b\u2029\x85"),
        ("caf\udce9", r"caf\xe9"),
        ("été 猫 🐈", "été 猫 🐈"),
    ],
)
@pytest.mark.parametrize("kind", [UserError, BadImage, MissingArgument])
def test_errors_are_one_printable_line(name: str, shown: str, kind: type[UserError]):
    text = str(kind(f"there is no {name}; give another"))
    assert text == f"there is no {shown}; give another"
    assert str(kind(text)) == text
    assert str(pickle.loads(pickle.dumps(kind(text)))) == text


def test_quoted_bytes_are_those_of_the_file():
    assert str(UserError(f"no {chr(0xDCE9)!r}")) == r"no '\xe9'"


@pytest.mark.parametrize("endless", ["x" * 10**6, "x " * 10**6, "猫" * 10**5, "\n" * 10**5])
def test_endless_names_leave_the_beginning_and_the_end(endless: str):
    text = str(UserError(f"there is no {endless}; give another"))
    assert len(text) <= 2000
    assert text.startswith("there is no ")
    assert "…" in text
    assert text.endswith("; give another")


def test_flaws_are_one_line_where_raised_and_where_listed():
    flaw = Flaw("a\nb.xml", 0, "has the class 'x\u202e\n'")
    assert "\n" not in str(BadAnnotations([flaw]))
    report = Report(num_images={}, bad=[Finding("", 0, flaw.file, flaw.text)], remarks=["c\nd"])
    assert all(line.isprintable() for line in report.lines())
