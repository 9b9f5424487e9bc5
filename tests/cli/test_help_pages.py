"""The help of every verb: it fits the terminal, its options are in groups, its examples are commands."""

from __future__ import annotations

import re
import shlex

import pytest

from vitrail import cli
from vitrail.terminal.help_pages import command_lines, described, examples
from vitrail.terminal.option_groups import MOST_USED, NUM_MOST_USED, OTHERS, grouped

VERBS = [(verb.name,) for verb in cli.verbs() if verb.name != "data"]
VERBS += [("data", name) for name in ("check", "stats", "export", "convert", "inspect")]
ENDS = {"|", ">"}  # of a command, as tokens of a shell


def app():
    """With all verbs: those of ``data`` belong to the application that was built last."""
    return cli.build()


def page(capsys, *verb):
    assert cli.main([*verb, "--help"]) == 0
    return capsys.readouterr().out


def arguments(example):
    """What a shell passes to vitrail; None where another program has the line."""
    tokens = shlex.split(example)
    if "vitrail" not in tokens:
        return None
    tokens = tokens[tokens.index("vitrail") + 1 :]
    return tokens[: next((i for i, token in enumerate(tokens) if token in ENDS), len(tokens))]


@pytest.mark.parametrize("columns", [60, 80])
def test_every_page_fits(capsys, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    for verb in [(), ("data",), *VERBS]:
        text = page(capsys, *verb)
        assert not re.search(r"default:\s+(True|False|None|[({\[])", text), "a default is written as it is given"
        lines = text.splitlines()
        assert lines[0].startswith("Usage: vitrail")
        too_long = [line for line in lines if len(line) > columns]
        assert too_long == [line for line in too_long if " " not in line.strip().removesuffix(" \\").removeprefix("|")]


def test_a_page_follows_the_terminal_of_its_call(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")
    page(capsys, "data", "check")
    monkeypatch.setenv("COLUMNS", "60")
    assert max(map(len, page(capsys, "data", "check").splitlines())) <= 60


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_options_are_in_named_groups_and_none_is_lost(capsys, verb):
    text = page(capsys, *verb)
    called = app()
    for name in verb:
        called = called[name]
    names = [
        argument.names[0]
        for argument in called.assemble_argument_collection()
        if argument.show and argument.names[0].startswith("--")
    ]
    at_line_starts = [line.split()[0].rstrip(",") for line in text.splitlines() if line.startswith("  --")]
    assert sorted(at_line_starts) == sorted(names)
    if len(names) > NUM_MOST_USED:
        first = text.partition(f"{MOST_USED}:\n")[2].partition("\n\n")[0]
        assert 5 <= sum(line.startswith("  --") for line in first.splitlines()) <= NUM_MOST_USED
    assert f"{OTHERS}:" not in text


def test_groups_hold_each_option_once_and_few_are_one_group():
    assert grouped(["json", "out"]) == {"Options": ["json", "out"]}
    names = [f"option-{number}" for number in range(9)] + ["epochs", "device", "model"]
    found = grouped(names)
    assert list(found) == [MOST_USED, OTHERS]
    assert found[MOST_USED] == ["model", "epochs", "device"]
    assert sorted(name for group in found.values() for name in group) == sorted(names)


@pytest.mark.parametrize("verb", VERBS, ids=" ".join)
def test_every_verb_has_examples_that_are_understood(verb):
    found = [tokens for each in examples(cli.document(verb)) if (tokens := arguments(each))]
    assert found, f"{verb} has no example"
    assert any(tokens[: len(verb)] == list(verb) for tokens in found)
    for tokens in found:
        tokens = ["/dev/stdin" if token == "-" else token for token in tokens]
        app().parse_args(tokens, exit_on_error=False, print_error=False)


@pytest.mark.parametrize("width", [40, 60, 200])
def test_a_broken_command_is_the_same_to_a_shell(width):
    command = "vitrail train photos/ --set 'a.b=c d' --distill-token --model Ti/16 | head -n 3"
    lines = command_lines(command, width)
    joined = "\n".join(lines).replace("\\\n", " ")
    assert shlex.split(joined) == shlex.split(command)
    assert all(len(line) <= width for line in lines)
    assert not any(line.endswith(("--model \\", "--set \\")) for line in lines), "an option stays with its value"


def test_paragraphs_are_filled_and_remarks_aligned():
    text = "One\ntwo.\n\nExamples\n  vitrail a  first\n  vitrail longer  second\n"
    assert described(text, 60) == [
        "One two.", "", "Examples:", "  vitrail a       first", "  vitrail longer  second",
    ]  # fmt: skip
