"""The command line: every ``vitrail/cli/<verb>.py`` is a verb, imported only when it is called.

A verb's module holds a typed function named like the module, or an ``app`` (a cyclopts ``App`` of that name)
for a group such as ``data check``. The first line of its docstring is the summary in ``vitrail --help``, an
optional ``GROUP`` its heading there, one of ``GROUPS``; both are read from the source text: help imports no verb.
"""

from __future__ import annotations

import ast
import io
import os
import signal
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NamedTuple

from vitrail import registry
from vitrail.console import each_note_once, printable
from vitrail.errors import MissingArgument, UserError, did_you_mean
from vitrail.files import NO_ROOM
from vitrail.interrupts import announced
from vitrail.machine import safe_children
from vitrail.terminal.options import MAX_PIXELS_VARIABLE
from vitrail.version import __version__

if TYPE_CHECKING:
    from cyclopts import App

SUMMARY = "Vision Transformers from a folder of images to a trained, evaluated and explained model."
GROUPS = ("Prepare and train", "Use a model", "Exchange weights", "Help")
HELP = f"""{SUMMARY}

Examples
  vitrail train photos/ --model S/16  one subfolder per class
  vitrail predict runs/photos "in/*.jpg"  classify images
  vitrail help predict  the options of a command"""


class Verb(NamedTuple):
    """A verb as help shows it, and the import path of its function."""

    name: str
    target: str
    summary: str
    group: str


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line; returns 0, 2 for a user's mistake, 130 for Ctrl-C, or what the verb returned."""
    from cyclopts import CycloptsError

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a class name that the terminal's encoding lacks
    tokens = [_stdin_path(token) for token in (sys.argv[1:] if arguments is None else arguments)]
    try:
        with _interrupts(), each_note_once(), _own_limits(), safe_children():
            result = build(tokens)(tokens, exit_on_error=False, print_error=False, result_action="return_value")
        sys.stdout.flush()
    except (UserError, CycloptsError) as error:
        print(f"vitrail: error: {printable(_with_example(_said(error), error, tokens))}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vitrail: stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader of our output has left, as in `vitrail models | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except OSError as error:
        if error.errno not in NO_ROOM:
            raise
        where = f" for {printable(str(error.filename))}" if error.filename else ""
        print(f"vitrail: error: {error.strerror}{where}; free some space or choose another place", file=sys.stderr)
        return 2
    return result if isinstance(result, int) else 0


@contextmanager
def _interrupts() -> Iterator[None]:
    """Ctrl-C is answered at once, also while a library converts a model, and where processes and files must be put away
    before the command ends."""

    def stop(number: int, frame: FrameType | None) -> None:
        signal.default_int_handler(number, frame)

    def announce(number: int) -> None:
        if signal.getsignal(number) is stop:  # a server and a training answer themselves
            os.write(2, b"vitrail: stopping\n")  # a print could be in the middle of another one

    mine = threading.current_thread() is threading.main_thread()
    if not mine or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:  # a program's own, or nohup's
        yield
        return
    signal.signal(signal.SIGINT, stop)
    try:
        with announced([signal.SIGINT], announce):
            yield
    finally:
        if signal.getsignal(signal.SIGINT) is stop:
            signal.signal(signal.SIGINT, signal.default_int_handler)


def build(tokens: Sequence[str] = ()) -> App:
    """The application with all verbs registered, none of them imported.

    Args:
        tokens: the command line; the help of the verb that it calls is that verb's own docstring.
    """
    from cyclopts import App, Group, Parameter

    from vitrail.terminal.help_pages import HelpPages

    called = tokens[0] if tokens else ""
    app = App(
        name="vitrail",
        help=HELP,
        help_format="plaintext",
        help_formatter=HelpPages(),
        version=__version__,
        default_parameter=Parameter(negative=()),
        suppress_keyboard_interrupt=False,
    )
    groups = {name: Group(name, sort_key=place) for place, name in enumerate(GROUPS)}
    for verb in verbs():
        summary = None if verb.name == called else verb.summary
        app.command(verb.target, name=verb.name, help=summary, group=groups.get(verb.group, verb.group))
    for flags in (app.help_flags, app.version_flags):
        app[flags[0]].group = (groups["Help"],)
    return app


def show_help(verb: Sequence[str]) -> None:
    """Print the help of a verb (``["data", "check"]``), or with no name that of the whole command.

    Raises:
        UserError: there is no such verb.
    """
    names = [each.name for each in verbs()]
    if verb and verb[0] not in names:
        raise UserError(f"there is no command {verb[0]!r}; {did_you_mean(verb[0], names)}")
    build(verb)([*verb, "--help"], result_action="return_value")


def document(verb: Sequence[str]) -> str:
    """The docstring of a verb, or of the command of a group that the tokens begin with; nothing is imported."""
    name = verb[0].replace("-", "_") if verb else ""
    if name not in registry.names("cli"):
        return ""
    functions = {n.name: n for n in _parsed(name).body if isinstance(n, ast.FunctionDef)}
    found = functions.get(name) or functions.get(verb[1].replace("-", "_") if len(verb) > 1 else "")
    return (ast.get_docstring(found) if found is not None else None) or ""


def verbs() -> list[Verb]:
    """The verbs of this folder, by name."""
    return [_read(name) for name in registry.names("cli")]


@cache
def _read(name: str) -> Verb:
    tree = _parsed(name)
    function = next((n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name == name), None)
    document = ast.get_docstring(function or tree) or ""
    group = next(
        (n.value.value for n in tree.body
         if isinstance(n, ast.Assign) and isinstance(n.value, ast.Constant)
         and isinstance(n.targets[0], ast.Name) and n.targets[0].id == "GROUP"),
        GROUPS[0],
    )  # fmt: skip
    target = f"vitrail.cli.{name}:{name if function else 'app'}"
    return Verb(name.replace("_", "-"), target, document.partition("\n")[0], str(group))


def _parsed(name: str) -> ast.Module:
    return ast.parse((Path(__file__).parent / f"{name}.py").read_text(encoding="utf-8"))


@contextmanager
def _own_limits() -> Iterator[None]:
    """What the options of a command put into the environment, for its processes, ends with it."""
    before = os.environ.get(MAX_PIXELS_VARIABLE)
    try:
        yield
    finally:
        os.environ.pop(MAX_PIXELS_VARIABLE, None)
        if before is not None:
            os.environ[MAX_PIXELS_VARIABLE] = before


def _with_example(text: str, error: Exception, tokens: Sequence[str]) -> str:
    """The text of an error and, where an argument is missing, how the verb is called."""
    from cyclopts import MissingArgumentError

    from vitrail.terminal.help_pages import examples

    shown = examples(document(tokens)) if isinstance(error, MissingArgument | MissingArgumentError) else []
    return f"{text.rstrip('.')}; for example: {shown[0].partition('  ')[0]}" if shown else text


def _said(error: Exception) -> str:
    """On one line, also where a config that is given as options refuses a value."""
    refused = getattr(error.__cause__, "errors", None)  # pydantic's, which the parser has only wrapped
    if not callable(refused):
        return str(error)
    return "; ".join(
        f"--{each['loc'][-1]}".replace("_", "-") + f" {each['input']}: {each['msg']}" for each in refused()
    )


def _stdin_path(token: str) -> str:
    """``-`` by its long name: the parser takes a lone hyphen for an unknown option."""
    return "/dev/stdin" if token == "-" else token
